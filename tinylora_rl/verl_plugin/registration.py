"""Registers the CPU platform with verl, in every process, before verl looks for a device.

The engine, the rollout, the worker and the trainer are heavy; they register where they are defined,
in the only processes that use them. Their names are ours alone (`model_type: tinylora`,
`rollout.name: vllm_tinylora`), so that a missing registration is an error and never stock
behaviour.
"""

from __future__ import annotations

import importlib.util
import logging

REQUIRED_VERL = "0.9.1"


def register() -> None:
    """Registers the CPU platform, and selects it where there is no accelerator.

    Raises RuntimeError where verl is not the version this was written against.
    """
    import verl

    if verl.__version__ != REQUIRED_VERL:
        raise RuntimeError(f"verl=={verl.__version__} is installed, {REQUIRED_VERL} is needed")

    # verl 0.9.1 raises the root logger's level to ERROR on import; our warnings should be seen
    logging.getLogger("tinylora_rl").setLevel(logging.WARNING)

    from verl.plugin.platform import PlatformRegistry, platform_manager

    from tinylora_rl.verl_plugin.cpu.cpu_platform import CpuPlatform, has_no_accelerator

    if PlatformRegistry.get("cpu") is None:
        PlatformRegistry.register(platform="cpu")(CpuPlatform)
    if not has_no_accelerator():
        return
    # Not left to verl's detection: it may have fallen back to "nvidia" already, and it takes a
    # working nvidia-smi for a usable GPU even beside a CPU build of torch.
    if not isinstance(platform_manager._current_platform, CpuPlatform):
        platform_manager.set_platform(CpuPlatform())
    if importlib.util.find_spec("vllm") is not None:
        from tinylora_rl.verl_plugin.cpu.patches import answer_for_vllm

        answer_for_vllm()


def check_registration() -> None:
    """Checks that verl discovers and loads this plugin; RuntimeError with the fix if not."""
    from importlib.metadata import entry_points

    names = {entry_point.value for entry_point in entry_points(group="verl.plugins")}
    if "tinylora_rl.verl_plugin.entry_point" not in names:
        raise RuntimeError(
            "verl does not see the tinylora_rl plugin; install the package (pip install -e .) first"
        )

    import verl  # noqa: F401
    from verl.plugin.platform import PlatformRegistry

    if PlatformRegistry.get("cpu") is None:
        raise RuntimeError(
            "verl loaded no tinylora_rl plugin; unset VERL_USE_EXTERNAL_PLUGINS, or add "
            "tinylora_rl to it"
        )
