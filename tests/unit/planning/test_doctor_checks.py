"""What each check of the doctor says, pass, warn and fail, and how the table tells it."""

import http.server
import threading
from pathlib import Path

import pytest

from tests.unit.planning.planning import configured, experiment, values_of
from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.planning import machine, versions
from tinylora_rl.planning.devices import Gpu, check_answers, gpus_in
from tinylora_rl.planning.finding import (
    Verdict,
    as_gib,
    code_of,
    failed,
    finding_lines,
    outcome,
    passed,
    verdict_line,
    warned,
)
from tinylora_rl.planning.memory import GIB, Part, Phase, check_gpu_memory
from tinylora_rl.planning.sources import check_data_sources, check_model_source
from tinylora_rl.planning.training import check_values
from tinylora_rl.tasks import make_task

GSM8K = {"gsm8k": make_task("gsm8k", {}).sources("train")}


def test_a_wrong_configuration_outweighs_a_wrong_machine():
    fine, doubtful = passed("a", "so"), warned("b", "not so; fix it")
    machines = failed("c", MachineError("no GPU; find one"))
    values = failed("d", ConfigError("u=0; use 1"))
    assert code_of([fine, doubtful]) == 0
    assert code_of([fine, machines, doubtful]) == 3
    assert code_of([machines, values]) == 2


def test_an_error_that_is_not_ours_passes_through():
    def broken() -> None:
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        outcome("x", broken)


def test_the_table_is_aligned_and_counts():
    findings = [passed("Python", "3.11"), warned("disk", "word " * 40), passed("x", "y")]
    lines = finding_lines(findings)
    assert lines[0] == "pass  Python  3.11"
    assert lines[1].startswith("warn  disk    word")
    assert lines[2].startswith(" " * 14 + "word")
    assert max(map(len, lines)) <= 110
    assert verdict_line(findings) == "3 checks: 2 passed, 1 to look at"
    assert [as_gib(n) for n in (52, 1 << 20, 14.2 * GIB, 113 * GIB)] == [
        "52 B",
        "1.0 MiB",
        "14.2 GiB",
        "113 GiB",
    ]


def test_every_wrong_value_is_found_and_not_the_first_alone():
    wrong = ("adapter.u=0", "sync.mode=shared", "task.eval_rows=0", "trainer.n_gpus_per_node=3")
    _, findings = check_values(
        configured("train", {"+recipe": "arithmetic_cpu", **values_of(wrong)})
    )
    details = [finding.detail for finding in findings]
    assert len(details) == len(wrong)
    for text, line in zip(
        ("adapter.u=0", "sync.mode='shared'", "task.eval_rows=0", "no multiple of 3 ranks"),
        details,
        strict=True,
    ):
        assert text in line
    _, findings = check_values(configured("train", {"+recipe": "arithmetic_cpu"}))
    assert [finding.verdict for finding in findings] == [Verdict.PASS]


# -- versions --------------------------------------------------------------------------------------


@pytest.fixture
def pins(tmp_path, monkeypatch):
    """Writes a row of tested pins: this environment's own, with some changed."""

    def write(**changed: str) -> None:
        row = {name: versions._installed(name) for name in versions.CORE["cpu"]}
        row |= {"numpy": versions._installed("numpy")}
        row |= {name.replace("_", "-"): pin for name, pin in changed.items()}
        (tmp_path / "cpu.txt").write_text("".join(f"{n}=={p}\n" for n, p in row.items()))

    monkeypatch.setattr(versions, "requirements_dir", lambda: tmp_path)
    return write


def detail_of(findings, subject: str) -> tuple[Verdict, str]:
    [finding] = [finding for finding in findings if finding.subject == subject]
    return finding.verdict, finding.detail


def test_this_environment_is_compared_with_its_row(pins):
    pins()
    assert {finding.verdict for finding in versions.check_versions("cpu")} == {Verdict.PASS}
    pins(torch="1.0", numpy="1.0")
    found = versions.check_versions("cpu")
    assert detail_of(found, "versions")[0] is Verdict.WARN
    assert "tested with torch 1.0, numpy 1.0: " in detail_of(found, "versions")[1]


def test_another_verl_fails_and_other_builds_of_one_version_do_not_differ(pins):
    pins(verl="0.0.1", torch=versions._installed("torch").partition("+")[0] + "+cu130")
    verdict, line = detail_of(versions.check_versions("cpu"), "versions")
    assert verdict is Verdict.FAIL
    assert "0.0.1 is needed" in line
    assert "torch" not in line


def test_without_pins_that_is_said(pins):
    del pins  # none written
    found = versions.check_versions("cpu")
    assert "no tested pins here" in found[1].detail
    assert found[1].verdict is Verdict.WARN


def test_the_shipped_rows_name_every_package_that_decides():
    for row, names in versions.CORE.items():
        assert set(names) <= set(versions.tested_row(row))


# -- devices ---------------------------------------------------------------------------------------

H100 = {"name": "NVIDIA H100", "total": 80 * GIB, "free": 79 * GIB, "capability": [9, 0]}


def answers(count: int, *, ray: int | None = None, vllm: str = "cuda", **card: object):
    gpus = [{**H100, **card}] * count
    return {
        "torch": {"count": count, "gpus": gpus, "built_for": "13.0"},
        "Ray": {"count": count if ray is None else ray},
        "vLLM": {"device": vllm},
    }


@pytest.mark.parametrize(
    ("given", "device", "verdict", "text"),
    [
        (answers(0, vllm="cpu"), "cpu", Verdict.PASS, "torch sees 0 GPUs, Ray sees 0 GPUs"),
        (answers(1), "cpu", Verdict.FAIL, "use device=cuda"),
        (answers(8), "cuda", Verdict.PASS, "torch sees 8 GPUs, Ray sees 8 GPUs, vLLM sees cuda"),
        (answers(8, ray=4), "cuda", Verdict.WARN, "Ray sees 4 GPUs"),
        (answers(8, vllm="cpu"), "cuda", Verdict.FAIL, "this vLLM knows no GPU"),
        (
            {**answers(0), "vLLM": {"error": "ImportError: libcudart.so.13"}},
            "cuda",
            Verdict.FAIL,
            "vLLM: cannot be asked for its devices (ImportError: libcudart.so.13)",
        ),
    ],
)
def test_libraries_must_see_the_same_devices(given, device, verdict, text):
    found = check_answers(given, device, has_ray=True)
    assert found[0].verdict is verdict
    assert text in found[0].detail


def test_a_gpu_without_bf16_fails():
    found = check_answers(answers(2, name="V100", capability=[7, 0]), "cuda", has_ray=True)
    assert detail_of(found, "GPU")[0] is Verdict.FAIL
    assert "2 x V100, 80.0 GiB" in detail_of(found, "GPU")[1]
    assert gpus_in(answers(1)) == [Gpu("NVIDIA H100", 80 * GIB, 79 * GIB, (9, 0))]


def test_exact_parts_fail_and_estimates_warn():
    def verdict(exact: float, estimated: float, free: float = 80) -> Verdict:
        phase = Phase(
            name="update",
            parts=(Part("actor", exact * GIB), Part("logits", estimated * GIB, is_exact=False)),
            fix="add GPUs",
        )
        return check_gpu_memory([phase], [Gpu("H100", 80 * GIB, int(free * GIB), (9, 0))]).verdict

    assert verdict(30, 30) is Verdict.PASS
    assert verdict(30, 45) is Verdict.WARN  # too near
    assert verdict(30, 60) is Verdict.WARN
    assert verdict(81, 0) is Verdict.FAIL
    assert verdict(30, 30, free=50) is Verdict.WARN  # another job's


# -- machine ---------------------------------------------------------------------------------------


def test_a_disk_that_is_too_small_fails_with_all_that_goes_there(tmp_path):
    near = {tmp_path / "runs" / "x": (1e3, "checkpoints"), tmp_path / "hub": (2e3, "files")}
    [found] = machine.check_disk(near)
    assert found.verdict is Verdict.PASS
    assert f"files in {tmp_path / 'hub'}" in found.detail
    [found] = machine.check_disk({**near, tmp_path / "more": (1e18, "a planet")})
    assert found.verdict is Verdict.FAIL
    assert "run.dir, HF_HOME or run.bank_cache_dir" in found.detail
    assert not (tmp_path / "runs").exists()


def test_a_control_groups_limit_bounds_the_memory(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(f"{2 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {GIB // 2}\n")
    monkeypatch.setattr(machine, "_own_cgroups", lambda: [tmp_path])
    assert machine.free_memory() == (3 * GIB // 2, "a control group's limit of 2.0 GiB")
    assert machine.check_memory(GIB).verdict is Verdict.PASS
    assert machine.check_memory(2 * GIB).verdict is Verdict.WARN
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.free_memory()[1] == "this machine"


def test_cores_of_a_quota_count(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_own_cgroups", lambda: [tmp_path])
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert machine.check_cores(1).detail.startswith("0.5 for 1 rank")
    assert machine.check_cores(1).verdict is Verdict.WARN


def test_ports_that_cannot_be_had_fail(monkeypatch):
    assert machine.check_ports(4).verdict is Verdict.PASS
    monkeypatch.setattr(machine, "_own_address", lambda: "192.0.2.77")  # nobody's
    found = machine.check_ports(4)
    assert found.verdict is Verdict.FAIL
    assert "192.0.2.77: cannot listen" in found.detail


def test_shared_memory_warns(monkeypatch):
    assert machine.check_shared_memory(1).verdict is Verdict.PASS
    assert machine.check_shared_memory(1 << 60).verdict is Verdict.WARN


# -- what comes from elsewhere ---------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch):
    """A hub that knows one gated repository; `huggingface_hub` is pointed at it."""

    class Gate(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(401)
            self.send_header("X-Error-Code", "GatedRepo")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        url + "/{repo_id}/resolve/{revision}/{filename}",
    )
    yield url
    server.shutdown()
    server.server_close()


def test_a_gated_model_says_how_to_get_it(hub):
    del hub
    found = check_model_source(experiment("train", {"+recipe": "gsm8k_llama3b"}).base, None)
    assert found.verdict is Verdict.FAIL
    assert "accept its licence on the hub and set HF_TOKEN" in found.detail
    assert check_data_sources(GSM8K)[0].verdict is Verdict.PASS


def test_a_hub_out_of_reach_is_said_in_time(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}",
    )
    found = check_model_source(experiment("train", {"+recipe": "gsm8k_qwen7b"}).base, None)
    assert found.verdict is Verdict.FAIL
    assert found.exit_code == 3
    [rows] = check_data_sources(GSM8K)
    assert rows.verdict is Verdict.WARN
    assert rows.detail.startswith("gsm8k from 127.0.0.1:9: not to be had now")


def test_a_folder_that_is_not_there_is_a_wrong_value():
    point = {"+recipe": "gsm8k_qwen7b", "base_model.path": "/nowhere"}
    found = check_model_source(experiment("train", point).base, Path("/nowhere"))
    assert found.exit_code == 2
    assert "base_model.path=/nowhere: no such folder" in found.detail
