"""verl really takes the CPU platform, and a registration that fails ends the process."""

import logging
import subprocess
import sys

import pytest
import torch

from tinylora_rl.verl_plugin.registration import check_registration

NO_GPU = not torch.cuda.is_available()


def run(code: str, **env: str) -> subprocess.CompletedProcess:
    import os

    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_platform_is_the_machines_and_not_a_fallback():
    """verl swallows a plugin's exception and falls back to nvidia: ask it, in a fresh process."""
    result = run(
        "import verl; from verl.utils.device import get_device_name, get_resource_name, "
        "get_nccl_backend;"
        "print(get_device_name(), get_resource_name(), get_nccl_backend())"
    )
    assert result.stdout.split() == (
        ["cpu", "GPU", "gloo"] if NO_GPU else ["cuda", "GPU", "nccl"]
    ), result.stderr


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch is built for CUDA here")
def test_a_gpu_that_only_nvidia_smi_sees_does_not_mislead_a_cpu_build(tmp_path):
    """verl takes a working nvidia-smi for a usable GPU."""
    import os

    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\nexit 0\n")
    command.chmod(0o755)
    result = run(
        "import verl; from verl.utils.device import get_device_name;"
        "from importlib.metadata import version;"
        "print(get_device_name(), 'cpu' in version('vllm'))",
        PATH=f"{tmp_path}:{os.environ['PATH']}",
    )
    assert result.stdout.split() == ["cpu", "True"], result.stderr


def test_registration_is_visible():
    check_registration()


def test_a_failed_registration_ends_the_process_with_one_line():
    result = run(
        "import tinylora_rl.verl_plugin.registration as r\n"
        "def fail(): raise RuntimeError('injected')\n"
        "r.register = fail\n"
        "import verl\n"
        "print('verl went on')"
    )
    assert result.returncode == 3
    assert "verl went on" not in result.stdout
    assert (
        "registration with verl failed: RuntimeError: injected; reinstall"
        in result.stderr.splitlines()[-1]
    )


def test_a_disabled_plugin_is_noticed():
    result = run(
        "from tinylora_rl.verl_plugin.registration import check_registration; check_registration()",
        VERL_USE_EXTERNAL_PLUGINS="none",
    )
    assert result.returncode == 1
    assert "unset VERL_USE_EXTERNAL_PLUGINS" in result.stderr.splitlines()[-1]


def test_our_warnings_are_seen_beside_verl():
    import verl  # noqa: F401  # raises the root logger's level to ERROR

    assert logging.getLogger("tinylora_rl.adapter").isEnabledFor(logging.WARNING)
