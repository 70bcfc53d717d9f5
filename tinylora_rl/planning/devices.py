"""Asks torch, Ray and vLLM, in a process beside, for the accelerators that each of them sees.

An installation that does not fit its driver may end the interpreter that imports it, and the
imports take seconds, in which the other checks are made. No engine and no Ray is started.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tinylora_rl.planning.finding import Finding, as_gib, machine_failed, passed, warned

DEADLINE_S = 60.0
BF16_CAPABILITY = (8, 0)  # Ampere; older GPUs have no bf16 matrix units

# Each in the order in which it may end the process; one that fails leaves the others their say.
QUESTIONS: Mapping[str, str] = {
    "torch": (
        "import torch\n"
        "gpus = []\n"
        "for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):\n"
        "    free, total = torch.cuda.mem_get_info(i)\n"
        "    gpus.append({'name': torch.cuda.get_device_name(i), 'total': total, 'free': free,\n"
        "                 'capability': torch.cuda.get_device_capability(i)})\n"
        "answer = {'count': len(gpus), 'gpus': gpus, 'built_for': torch.version.cuda or 'cpu'}\n"
    ),
    "Ray": (
        "import os, ray\n"
        "if os.environ.get('RAY_ADDRESS'):\n"
        "    ray.init(address=os.environ['RAY_ADDRESS'], log_to_driver=False,\n"
        "             configure_logging=False)\n"
        "    nodes = [node['Resources'] for node in ray.nodes() if node['Alive']]\n"
        "    counts = [int(node.get('GPU', 0)) for node in nodes]\n"
        "    answer = {'count': sum(counts), 'nodes': counts}\n"
        "    ray.shutdown()\n"
        "else:\n"
        "    from ray._private import accelerators\n"
        "    manager = accelerators.get_accelerator_manager_for_resource('GPU')\n"
        "    answer = {'count': manager.get_current_node_num_accelerators()}\n"
    ),
    "vLLM": (
        "from vllm.platforms import current_platform\n"
        "answer = {'device': current_platform.device_type}\n"
    ),
}
_ASK = """
import json, os, sys
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what libraries print is not an answer
for who, question in json.loads(sys.argv[1]).items():
    scope = {}
    try:
        exec(question, scope)
        answer = scope["answer"]
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    print(json.dumps([who, answer]), file=answers, flush=True)
"""


class DeviceProbe:
    """Asks at once; `answers` waits."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _ASK, json.dumps(QUESTIONS)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._deadline_s = time.monotonic() + DEADLINE_S

    def answers(self) -> dict[str, dict[str, Any]]:
        """Returns {who: its answer, or `error`}."""
        try:
            out, err = self._process.communicate(
                timeout=max(0.1, self._deadline_s - time.monotonic())
            )
        except subprocess.TimeoutExpired:
            self._process.kill()
            out, err = self._process.communicate()
            err += f"\nno answer within {DEADLINE_S:.0f} s"
        given = dict(json.loads(line) for line in out.splitlines())
        lines = err.strip().splitlines()
        silent = lines[-1] if lines else f"ended with code {self._process.returncode}"
        return {who: given.get(who, {"error": silent}) for who in QUESTIONS}

    def stop(self) -> None:
        """Ends the process, answered or not."""
        self._process.kill()
        self._process.communicate()


@dataclasses.dataclass(frozen=True)
class Gpu:
    """A GPU that torch sees."""

    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]


def gpus_in(answers: Mapping[str, Mapping[str, Any]]) -> list[Gpu]:
    """Returns the GPUs that torch sees on this machine."""
    return [
        Gpu(gpu["name"], gpu["total"], gpu["free"], tuple(gpu["capability"]))
        for gpu in answers["torch"].get("gpus", [])
    ]


def check_answers(
    answers: Mapping[str, Mapping[str, Any]], device: str, *, has_ray: bool
) -> list[Finding]:
    """Checks that all take the device chosen (cpu or cuda), and agree on how many there are.

    Args:
        has_ray: the command uses Ray.
    """
    asked = ("torch", "Ray", "vLLM") if has_ray else ("torch", "vLLM")
    for who in asked:
        if "error" in answers[who]:
            message = f"{who}: cannot be asked for its devices ({answers[who]['error']}); fix "
            return [machine_failed("devices", message + "the installation (scripts/setup.sh)")]
    detail, takes = seen(answers, asked), answers["vLLM"]["device"]
    if device == "cpu" and takes != "cpu":
        message = f"{detail}: vLLM would take it with settings for a CPU; use device=cuda"
        return [machine_failed("devices", message)]
    if device == "cpu":
        return [passed("devices", detail)]
    count, listed = answers["torch"]["count"], _listed_by_driver()
    if count == 0 and listed:
        built_for = answers["torch"]["built_for"]
        fix = (
            "this torch is a CPU build; scripts/setup.sh .venv gpu installs the other"
            if built_for == "cpu"
            else f"CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES', 'is not set')}, "
            f"torch is built for CUDA {built_for}: show them, or update the driver"
        )
        return [machine_failed("devices", f"{detail}, but nvidia-smi lists {listed}; {fix}")]
    if count == 0:
        return []
    if takes != "cuda":
        message = f"{detail}: this vLLM knows no GPU; scripts/setup.sh .venv gpu installs one"
        return [machine_failed("devices", message), *_cards(gpus_in(answers))]
    found = passed("devices", detail)
    if has_ray and not os.environ.get("RAY_ADDRESS") and answers["Ray"]["count"] != count:
        fix = "set CUDA_VISIBLE_DEVICES to the GPUs of this run for all of them"
        found = warned("devices", f"{detail}; {fix}")
    return [found, *_cards(gpus_in(answers))]


def seen(
    answers: Mapping[str, Mapping[str, Any]], asked: Sequence[str] = ("torch", "Ray", "vLLM")
) -> str:
    """Writes `torch sees 8 GPUs, Ray sees 8 GPUs, vLLM sees cuda`."""
    return ", ".join(f"{who} sees {_seen(answers[who])}" for who in asked)


def _cards(gpus: list[Gpu]) -> list[Finding]:
    findings = []
    for name in dict.fromkeys(gpu.name for gpu in gpus):
        alike = [gpu for gpu in gpus if gpu.name == name]
        free = min(gpu.free_bytes for gpu in alike)
        detail = f"{len(alike)} x {name}, {as_gib(alike[0].total_bytes)}, "
        detail += f"at least {as_gib(free)} free"
        if alike[0].capability < BF16_CAPABILITY:
            version = ".".join(map(str, alike[0].capability))
            message = f"compute capability {version} has no bf16; use Ampere (8.0) or newer"
            findings.append(machine_failed("GPU", f"{detail}: {message}"))
        else:
            findings.append(passed("GPU", detail))
    return findings


def _seen(answer: Mapping[str, Any]) -> str:
    if "error" in answer:
        return "nothing"
    if "nodes" in answer:
        return f"{answer['count']} GPUs on {len(answer['nodes'])} nodes"
    if "device" in answer:
        return str(answer["device"] or "no device")
    return f"{answer['count']} GPU{'' if answer['count'] == 1 else 's'}"


def _listed_by_driver() -> int:
    """Counts the GPUs that nvidia-smi lists; 0 where there is none, or no driver."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
