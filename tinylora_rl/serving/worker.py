"""What a vLLM worker that serves our adapters has beyond vLLM's own."""

from __future__ import annotations

from typing import Any

EXTENSION = f"{__name__}.ServingWorkerExtension"


class ServingWorkerExtension:
    """Mixed into vLLM's worker class (`worker_extension_cls`) before the model is loaded."""

    model_runner: Any

    def __new__(cls, **kwargs: Any) -> ServingWorkerExtension:
        from vllm.platforms import current_platform

        from tinylora_rl.serving import cpu_lora, lora_manager

        if current_platform.is_cpu():
            cpu_lora.keep_the_base_apart()
        lora_manager.install()
        return super().__new__(cls)

    def adapter_memory(self) -> dict[str, int]:
        """What adapters take in this worker; see `TinyLoraWorkerManager.memory`."""
        memory: dict[str, int] = self.model_runner.lora_manager.memory()
        return memory
