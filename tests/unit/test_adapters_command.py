"""`python -m tinylora_rl.adapters`, as a user types it."""

import json
import subprocess
import sys
import time

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.adapters import main
from tinylora_rl.tasks.arithmetic import base_model_dir

BASE = str(base_model_dir())


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    # trained, as here, in bf16: the command loads the base in that dtype by itself
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16)
    adapter = inject(model, TinyLoraConfig(u=1, n_tie=16))
    adapter.v.data.copy_(torch.tensor([[0.25], [-0.125]]))
    provenance = {"base_model": "tiny\x1b[2J/base", "metrics": {"gsm8k/strict": 0.5}}
    return str(artifact.save(adapter, tmp_path_factory.mktemp("command") / "adapter", provenance))


def test_inspect_prints_a_table_without_torch(directory):
    program = (
        "import sys; from tinylora_rl.adapters import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'numpy', 'transformers', 'safetensors'} & set(sys.modules); "
        "sys.exit(code)"
    )
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program, "inspect", directory, directory],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - started_s < 5  # about 0.1 s; far above it on a busy machine
    assert done.stdout.count("2 = u 1 x 2 groups") == 2
    for part in (
        "8 bytes, float32",
        "0.25 -0.125",
        "gsm8k/strict",
        "tiny\\x1b[2J/base",
        artifact.read_manifest(directory)["digest"],
    ):
        assert part in done.stdout


def test_inspect_names_what_is_wrong_and_goes_on(directory, tmp_path, capsys):
    assert main(["inspect", str(tmp_path), directory]) == 2
    out, err = capsys.readouterr()
    assert err == f"error: {tmp_path}: no manifest.json, so no complete adapter is here\n"
    assert "2 = u 1 x 2 groups" in out


def test_verify(directory, tmp_path, capsys):
    assert main(["verify", directory, "--base", BASE]) == 0
    assert "base_digest, projection_digest, fingerprint" in capsys.readouterr().out

    other = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16)
    other.model.layers[1].mlp.up_proj.weight.data[3, 5] += 1
    other.save_pretrained(tmp_path / "other")
    assert main(["verify", directory, "--base", str(tmp_path / "other")]) == 2
    err = capsys.readouterr().err
    assert "error:" in err
    assert "base_digest differs" in err


def test_a_base_that_is_not_there_ends_with_one_line(directory, tmp_path, capsys):
    for base in (str(tmp_path / "missing"), "missing"):
        assert main(["verify", directory, "--base", base]) == 2
        err = capsys.readouterr().err
        assert err == f"error: --base={base}: no such folder, and no owner/name on the Hub\n"
    (tmp_path / "empty").mkdir()
    assert main(["verify", directory, "--base", str(tmp_path / "empty")]) in (2, 3)
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_export(directory, tmp_path, capsys):
    place = ["export", directory, "--base", BASE]
    lora, merged, tinylora = (str(tmp_path / name) for name in ("lora", "merged", "tinylora"))
    assert (
        main([*place, "--to", "peft-lora", "--out", lora, "--rank", "8", "--base-model", "a/b"])
        == 0
    )
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert (config["r"], config["base_model_name_or_path"]) == (8, "a/b")

    assert main([*place, "--to", "merged", "--out", merged, "--rounding", "stochastic"]) == 0
    assert "% of the update survived rounding" in capsys.readouterr().out
    assert AutoModelForCausalLM.from_pretrained(merged).dtype == torch.bfloat16
    assert (tmp_path / "merged" / "tokenizer.json").is_file()

    assert main([*place, "--to", "peft-tinylora", "--out", tinylora]) == 2
    assert "use untie=True" in capsys.readouterr().err
    assert main([*place, "--to", "peft-tinylora", "--out", tinylora, "--untie"]) == 0
    PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(BASE), tinylora)


def test_import_takes_over_what_peft_has(directory, tmp_path, capsys):
    peft, ours, again = (str(tmp_path / name) for name in ("peft", "ours", "again"))
    untied = ["--to", "peft-tinylora", "--out", peft, "--untie"]
    assert main(["export", directory, "--base", BASE, *untied]) == 0
    place = ["import", peft, "--base", BASE]
    assert main([*place, "--out", ours, "--base-model", "a/b"]) == 0
    assert "84 numbers over 21 modules, r=2, that make the same" in capsys.readouterr().out
    taken = artifact.open(ours)
    assert (taken.config.projection, taken.provenance.base_model) == ("basis", "a/b")
    assert taken.base_dtype == torch.bfloat16
    original = artifact.open(directory)
    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16)
    wanted, factors = (stored.update(model).lora_factors() for stored in (original, taken))
    for name, (A, B) in wanted.items():
        delta = B @ A
        assert (factors[name][1] @ factors[name][0] - delta).norm() < 1e-3 * delta.norm()

    assert main([*place, "--out", again, "--like", directory]) == 0  # and v comes back
    assert torch.allclose(artifact.read_vector(again), original.v, rtol=1e-4)
    assert artifact.open(again).config == original.config


def test_import_ends_with_one_line(directory, tmp_path, capsys):
    out, peft = str(tmp_path / "out"), str(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "adapter_config.json").write_text("{}")
    for arguments, message in (
        ([directory, "--out", out], f"{directory}: no adapter_config.json, so no PEFT adapter"),
        ([peft, "--out", directory], f"--out={directory}: exists; give a new folder"),
        ([peft, "--out", out, "--like", out], "no complete adapter is here"),
        ([peft, "--out", out], "adapter_config.json: peft_type is not TINYLORA"),
    ):
        assert main(["import", *arguments, "--base", BASE]) == 2
        last = capsys.readouterr().err.splitlines()[-1]  # below the bar of loading, if any
        assert last.startswith("error: ")
        assert message in last
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--to", "merged", "--rank", "8"], "--rank: only for --to peft-lora"),
        (["--to", "peft-lora", "--rounding", "nearest"], "--rounding: only for --to merged"),
        (["--to", "peft-tinylora", "--dtype", "bfloat16"], "--dtype: only for --to peft-lora or"),
        (["--to", "peft-lora", "--dtype", "float16"], "choose from float32, bfloat16"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(directory, tmp_path, capsys, extra, message):
    out = str(tmp_path / "out")
    assert main(["export", directory, "--base", BASE, "--out", out, *extra]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_push_refuses_what_is_damaged_before_it_needs_a_network(tmp_path, capsys):
    assert main(["push", str(tmp_path), "me/tiny"]) == 2
    assert "no complete adapter is here" in capsys.readouterr().err


def test_a_command_line_that_makes_no_sense_ends_with_2(capsys):
    for argv in ([], ["eat"], ["inspect"], ["export", "x", "--base", "y"]):
        with pytest.raises(SystemExit) as stop:
            main(argv)
        assert stop.value.code == 2
    assert "inspect" in capsys.readouterr().err


def test_plan_lists_the_papers_choice_first(capsys):
    assert main(["plan", "--base", BASE, "--bytes", "52"]) == 0
    lines = capsys.readouterr().out.splitlines()
    # 21 modules: 13 numbers pay for one each of 11 groups of two neighbours
    assert lines[1].split()[:6] == ["1", "2", "tiled", "11", "11", "44"]
    shared = next(line for line in lines if line.split()[1:3] == ["all", "tiled"])
    assert shared.split()[:6] == ["13", "all", "tiled", "1", "13", "52"]


def test_plan_refuses_a_budget_that_pays_for_nothing(capsys):
    assert main(["plan", "--base", BASE, "--bytes", "3"]) == 2
    assert "num_bytes=3: pays for no number of 4 bytes" in capsys.readouterr().err
