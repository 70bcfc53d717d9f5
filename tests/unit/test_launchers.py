"""Scripts that start a run on several nodes: what they do with signals, exit codes and tokens."""

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "scripts" / "cluster"
BIN = Path(sys.executable).parent

# -- SLURM, whose own commands are stubs that write down how they were called --------------------

STUBS = {
    "srun": "exit 0",
    "scontrol": "exit 0",
    # The run: waits for a signal where RUN_WAITS, and ends with RUN_CODE.
    "python": """
        trap 'echo USR1 >>calls; exit 75' USR1
        trap 'echo TERM >>calls; exit 75' TERM
        touch started
        while [ -n "$RUN_WAITS" ]; do sleep 0.05; done
        exit "$RUN_CODE"
    """,
    "scripts/cluster/ray.sh": '[ "$1" != head ] || echo "export RAY_ADDRESS=h:1"',
}
ALLOCATION = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_GPUS_ON_NODE": "8",
    "SLURM_CPUS_ON_NODE": "64",
    "RUN_WAITS": "",
    "RUN_CODE": "0",
}


class Job:
    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self.folder = folder
        for name, body in STUBS.items():
            stub = folder / (name if "/" in name else f"bin/{name}")
            stub.parent.mkdir(parents=True, exist_ok=True)
            stub.write_text(f'#!/bin/bash\necho "{Path(name).name} $*" >>calls\n{body}\n')
            stub.chmod(0o755)
        self.process = subprocess.Popen(
            ["bash", CLUSTER / "slurm.sh", *arguments],
            env={
                **os.environ,
                "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
                "SLURM_SUBMIT_DIR": str(folder),
                **ALLOCATION,
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def signal(self, number: signal.Signals) -> None:
        deadline_s = time.monotonic() + 20
        while not (self.folder / "started").exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        self.process.send_signal(number)

    def end(self) -> tuple[int, list[str]]:
        said, _ = self.process.communicate(timeout=30)
        assert "Traceback" not in said
        return self.process.returncode, (self.folder / "calls").read_text().splitlines()


def test_a_slurm_job_starts_the_run_on_all_its_nodes(tmp_path):
    code, calls = Job(tmp_path, "+recipe=gsm8k_qwen7b_u13", "seed=1").end()
    assert code == 0
    assert "ray.sh head --num-gpus=8 --num-cpus=64" in calls
    (join,) = [call for call in calls if call.startswith("srun")]
    assert "--relative=1 --nodes=1 --ntasks=1" in join
    assert "ray.sh join h:1 --num-gpus=8 --num-cpus=64 --block" in join
    run = (
        "python -m tinylora_rl.train trainer.nnodes=2 trainer.n_gpus_per_node=8 "
        f"run.dir={tmp_path}/runs/slurm/7 +recipe=gsm8k_qwen7b_u13 seed=1"
    )
    assert calls.index("ray.sh wait 2") < calls.index(run)


@pytest.mark.parametrize(("code", "is_requeued"), [("0", False), ("1", False), ("75", True)])
def test_a_run_stopped_with_everything_saved_is_queued_again(tmp_path, code, is_requeued):
    ended, calls = Job(tmp_path, RUN_CODE=code).end()
    assert ended == int(code)
    assert ("scontrol requeue 7" in calls) is is_requeued


def test_the_clock_reaches_the_run_and_the_job_is_queued_again(tmp_path):
    job = Job(tmp_path, RUN_WAITS="yes")
    job.signal(signal.SIGUSR1)
    code, calls = job.end()
    assert code == 75
    assert calls.index("USR1") < calls.index("scontrol requeue 7")


def test_a_cancelled_job_is_not_queued_again(tmp_path):
    job = Job(tmp_path, RUN_WAITS="yes")
    job.signal(signal.SIGTERM)
    code, calls = job.end()
    assert code == 75
    assert "TERM" in calls
    assert not any(call.startswith("scontrol") for call in calls)


def test_a_job_that_never_gets_further_ends(tmp_path):
    code, calls = Job(tmp_path, RUN_CODE="75", SLURM_RESTART_COUNT="50").end()
    assert code == 75
    assert not any(call.startswith("scontrol") for call in calls)


def test_the_clock_signals_the_script_and_leaves_time_to_save():
    text = (CLUSTER / "slurm.sh").read_text()
    assert "#SBATCH --signal=B:USR1@300" in text
    assert "#SBATCH --requeue" in text


# -- Ray -----------------------------------------------------------------------------------------


def ray_sh(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CLUSTER / "ray.sh", *arguments],
        env={**_without_ray(), "PATH": f"{BIN}:{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _without_ray() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "choose head, join, wait or stop"),
        (["begin"], "choose head, join, wait or stop"),
        (["join"], "join needs the head's HOST:PORT"),
        (["join", "127.0.0.1:1"], "no token; copy the head's there"),
        (["wait", "2"], "wait needs RAY_ADDRESS"),
    ],
)
def test_ray_sh_says_in_one_line_what_is_missing(tmp_path, arguments, message):
    result = ray_sh(*arguments, HOME=str(tmp_path))
    assert result.returncode == 3
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.e2e
@pytest.mark.slow
def test_a_cluster_of_two_nodes_refuses_a_node_without_its_token(tmp_path):
    home = {"HOME": str(tmp_path)}
    node = ("--num-cpus=1", "--num-gpus=0", "--object-store-memory=100000000", "--block")
    token = tmp_path / ".ray" / "auth_token"
    said = tmp_path / "head.txt"
    processes = []

    def start(*arguments: str, output: Path) -> None:
        with output.open("w") as file:
            processes.append(
                subprocess.Popen(
                    [CLUSTER / "ray.sh", *arguments, *node],
                    env={**_without_ray(), "PATH": f"{BIN}:{os.environ['PATH']}", **home},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                )
            )

    try:
        start("head", output=said)
        deadline_s = time.monotonic() + 90
        while "Ray runtime started" not in said.read_text():
            assert processes[0].poll() is None, said.read_text()
            assert time.monotonic() < deadline_s, said.read_text()
            time.sleep(0.2)
        printed = re.match(r"export RAY_ADDRESS=(\S+:\d+) RAY_AUTH_MODE=token\n", said.read_text())
        assert printed is not None
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert len(token.read_text()) == 64
        assert token.read_text() not in said.read_text()

        address = printed.group(1)
        start("join", address, output=tmp_path / "join.txt")
        here = {**home, "RAY_ADDRESS": address}
        result = ray_sh("wait", "2", "60", **here)
        assert result.returncode == 0, result.stderr
        assert "2 nodes" in result.stderr

        stranger = ray_sh("join", address, "--num-cpus=1", RAY_AUTH_TOKEN="0" * 64, **home)
        assert stranger.returncode != 0
        assert "InvalidAuthToken" in stranger.stderr
    finally:
        for process in reversed(processes):  # with --block, a node's processes end with it
            process.terminate()
            process.wait(timeout=60)


# -- Kubernetes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kuberay() -> dict[str, dict]:
    text = (CLUSTER / "kuberay-job.yaml").read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def test_the_kuberay_job_runs_the_7b_recipe_on_all_its_nodes(kuberay):
    spec = kuberay["RayJob"]["spec"]
    cluster = spec["rayClusterSpec"]
    num_nodes = 1 + sum(group["replicas"] for group in cluster["workerGroupSpecs"])
    entrypoint = spec["entrypoint"].split()
    assert "+recipe=gsm8k_qwen7b_u13" in entrypoint
    assert f"trainer.nnodes={num_nodes}" in entrypoint
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        gpus = container["resources"]["limits"]["nvidia.com/gpu"]
        assert f"trainer.n_gpus_per_node={gpus}" in entrypoint
        assert group["rayStartParams"]["num-gpus"] == str(gpus)
    pins = (ROOT / "requirements" / "gpu.txt").read_text()
    assert f"ray=={cluster['rayVersion']}\n" in pins


def test_the_kuberay_cluster_is_closed(kuberay):
    cluster = kuberay["RayJob"]["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    label = {"app": "tinylora-rl"}
    inside, elsewhere = kuberay["NetworkPolicy"]["spec"]["ingress"]
    assert kuberay["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == label
    assert inside == {"from": [{"podSelector": {"matchLabels": label}}]}
    assert elsewhere["ports"] == [{"protocol": "TCP", "port": 8265}]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["metadata"]["labels"] == label
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
        (container,) = group["template"]["spec"]["containers"]
        assert {variable["name"] for variable in container["env"]} == {"HF_HOME"}  # no secret
