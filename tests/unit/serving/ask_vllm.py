"""Run by test_with_vllm.py in a process of its own: what takes vLLM's import, told as JSON.

Arguments: a JSON file of {name: words for vLLM's command line}, a JSON file to write.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import torch


def lora_outputs() -> dict[str, list[list[float]]]:
    """x + dW x of three tokens through vLLM's CPU kernels: without adapter, slot 0, slot 1."""
    from vllm.lora.layers import LoRAMapping
    from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

    from tinylora_rl.vllm_plugin.cpu_patch import keep_the_base_apart

    generator = torch.Generator().manual_seed(0)
    x_TI = torch.randn(3, 5, generator=generator)
    A_SRI = torch.randn(2, 1, 2, 5, generator=generator)
    B_SOR = torch.randn(2, 1, 4, 2, generator=generator)

    def outputs() -> list[list[float]]:
        wrapper = PunicaWrapperCPU(8, max_batches=4, device="cpu")
        mapping = LoRAMapping((0, 11, 22), (0, 11, 22), is_prefill=True)
        wrapper.update_metadata(mapping, [11, 22], 3, 100)
        y_TO = torch.zeros(3, 4)
        wrapper.add_lora_linear(y_TO, x_TI, (A_SRI,), (B_SOR,), 1.0, (4,))
        return y_TO.tolist()

    wanted = torch.stack(
        [torch.zeros(4), *(B_SOR[s, 0] @ A_SRI[s, 0] @ x_TI[s + 1] for s in (0, 1))]
    )
    plain = outputs()
    keep_the_base_apart()
    keep_the_base_apart()  # a second worker in the process
    return {"wanted": wanted.tolist(), "vllm": plain, "patched": outputs()}


def parsed(words: list[str]) -> dict[str, Any]:
    """What becomes of a command line: its error, or what matters of it."""
    from tinylora_rl.serving.admission import Limits
    from tinylora_rl.serving.vllm_arguments import ServerArguments, limits_in, parse

    ours = ServerArguments(
        base=Path("/models/base"),
        name="base",
        host="127.0.0.1",
        port=8000,
        slots=3,
        limits=Limits(max_rank=8, target_modules=frozenset({"q_proj", "k_proj"})),
        options={"dtype": "float32", "enforce_eager": True, "enable_chunked_prefill": False},
        passed=words,
    )
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            arguments = parse(ours)
    except ValueError as error:
        return {"refused": str(error)}
    except SystemExit as stop:
        return {"exit": stop.code, "said": said.getvalue()[-200:]}
    limits = limits_in(arguments)
    keys = ("model", "served_model_name", "host", "dtype", "enable_chunked_prefill", "max_loras")
    return {
        **{key: getattr(arguments, key) for key in keys},
        "max_rank": limits.max_rank,
        "target_modules": sorted(limits.target_modules),
        "middleware": arguments.middleware,
    }


def main() -> None:
    lines = json.loads(Path(sys.argv[1]).read_text())
    told = {
        "lora": lora_outputs(),
        "parsed": {name: parsed(words) for name, words in lines.items()},
    }
    Path(sys.argv[2]).write_text(json.dumps(told))


if __name__ == "__main__":
    main()
