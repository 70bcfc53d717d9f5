"""Measures time and memory of the adapted linears against the frozen base and PEFT's, in one run.

    python scripts/bench/layer.py                      # 6 blocks of a 0.5B, fp32 and bf16
    python scripts/bench/layer.py --blocks 24          # the whole depth; PEFT's SVDs take minutes

All variants share one random Qwen2 base of the 0.5B shape (hidden 896) and adapt its seven linears
per block. A sample is one forward and backward of the blocks (no embedding, no head) from input
embeddings that require a gradient, so that the frozen base also passes gradients all the way down.
Rounds visit the variants in shuffled order; a ratio is taken within a round, then summarised.
Saved bytes are the distinct storages that autograd holds for backward, parameters and factors left
out; peak bytes are the process's peak resident set over one sample above what it was before.
Linux only (the peak is reset through /proc/self/clear_refs). Run it on an idle machine; on a busy
one, `--clock cpu --threads 1` counts the processor's time, which waiting does not enter.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import dataclasses
import gc
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft import TinyLoraConfig as PeftTinyLoraConfig
from torch import nn
from transformers import Qwen2Config, Qwen2Model

from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.adapter.config import TARGET_MODULES

HIDDEN = 896
RANK = 2
NUM_VALUES = 13


@dataclasses.dataclass(kw_only=True)
class Variant:
    """A model of the comparison, its samples in seconds, and its memory."""

    name: str
    model: nn.Module
    constants: set[int]
    samples_s: list[float] = dataclasses.field(default_factory=list)
    saved_bytes: int = 0
    peak_bytes: int = 0


def base_model(num_blocks: int, dtype: torch.dtype) -> Qwen2Model:
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=128,
        hidden_size=HIDDEN,
        intermediate_size=4864,
        num_hidden_layers=num_blocks,
        num_attention_heads=14,
        num_key_value_heads=2,
    )
    return Qwen2Model(config).to(dtype).train().requires_grad_(False)


def ours(model: nn.Module) -> nn.Module:
    adapter = inject(model, TinyLoraConfig(r=RANK, u=NUM_VALUES))
    adapter.v.data.fill_(0.01)
    model.adapter_of_bench = [adapter]  # the factors are constants of this variant
    return model


def peft_tinylora(model: nn.Module) -> nn.Module:
    config = PeftTinyLoraConfig(
        r=RANK, u=NUM_VALUES, weight_tying=1.0, target_modules=list(TARGET_MODULES)
    )
    return get_peft_model(model, config)


def peft_lora(model: nn.Module, autocast_adapter_dtype: bool = True) -> nn.Module:
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGET_MODULES))
    return get_peft_model(model, config, autocast_adapter_dtype=autocast_adapter_dtype)


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

BUILDERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "frozen base": lambda model: model,
    "tinylora_rl": ours,
    "PEFT TinyLoRA": peft_tinylora,
    "PEFT LoRA r=2": peft_lora,  # PEFT's default: adapter weights in fp32 whatever the base
    "PEFT LoRA r=2, base's dtype": lambda model: peft_lora(model, autocast_adapter_dtype=False),
}


def build(name: str, base: nn.Module) -> Variant:
    """Builds the variant over the parameters of `base`, which are shared, not copied."""
    twin = copy.deepcopy(base, {id(p): p for p in base.parameters()})
    model = BUILDERS[name](twin)
    constants = {storage(t) for t in (*model.parameters(), *model.buffers())}
    for adapter in getattr(model, "adapter_of_bench", []):
        constants.add(storage(adapter.v))
        for factors in adapter.bank.values():
            constants |= {storage(f) for f in (factors.left_OR, factors.right_RI, factors.P_URR)}
    for module in model.modules():  # PEFT TinyLoRA's factors are neither parameters nor buffers
        for slot in ("tinylora_A", "tinylora_B", "tinylora_P"):
            for tensor in dict(getattr(module, slot, None) or {}).values():
                constants.add(storage(tensor))
    return Variant(name=name, model=model, constants=constants)


def storage(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def sample(variant: Variant, embeddings: torch.Tensor) -> None:
    output = variant.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    output.float().square().mean().backward()


def clear_gradients(variant: Variant, embeddings: torch.Tensor) -> None:
    embeddings.grad = None
    for adapter in getattr(variant.model, "adapter_of_bench", []):
        adapter.v.grad = None
    variant.model.zero_grad()


def measure_memory(variant: Variant, embeddings: torch.Tensor) -> None:
    held: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if storage(tensor) not in variant.constants:
            held[storage(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = variant.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state
    variant.saved_bytes = sum(held.values())
    del output
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # or freed pages of the last sample hide this one's
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again from VmRSS
    sample(variant, embeddings)
    variant.peak_bytes = resident("VmHWM") - before
    clear_gradients(variant, embeddings)


def resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def run(dtype: torch.dtype, arguments: argparse.Namespace) -> list[Variant]:
    base = base_model(arguments.blocks, dtype)
    variants = [build(name, base) for name in arguments.variants]
    shape = (arguments.rows, arguments.tokens, HIDDEN)
    embeddings = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    embeddings.requires_grad_()
    for variant in variants:
        sample(variant, embeddings)  # warm-up
        clear_gradients(variant, embeddings)
        measure_memory(variant, embeddings)
    order, clock = random.Random(0), CLOCKS[arguments.clock]
    for _ in range(arguments.rounds):
        for variant in order.sample(variants, len(variants)):
            started = clock()
            sample(variant, embeddings)
            variant.samples_s.append(clock() - started)
            clear_gradients(variant, embeddings)
    return variants


def spread(values: list[float], digits: int) -> str:
    summary = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value:.{digits}f}" for value in summary)


def show(dtype: torch.dtype, variants: list[Variant], arguments: argparse.Namespace) -> None:
    print(
        f"\n{str(dtype).removeprefix('torch.')}, {arguments.blocks} blocks, "
        f"{arguments.rows} x {arguments.tokens} tokens, {torch.get_num_threads()} threads, "
        f"{arguments.rounds} rounds, {arguments.clock} clock; min / median / max; memory in MiB"
    )
    print(f"{'':28}{'seconds':>26}{'time / base':>26}{'saved':>10}{'extra':>8}{'peak':>10}")
    base = variants[0]
    for variant in variants:
        ratios = [t / b for t, b in zip(variant.samples_s, base.samples_s, strict=True)]
        mebibytes = [
            n / 2**20
            for n in (
                variant.saved_bytes,
                variant.saved_bytes - base.saved_bytes,
                variant.peak_bytes,
            )
        ]
        print(
            f"{variant.name:28}{spread(variant.samples_s, 3):>26}{spread(ratios, 3):>26}"
            f"{mebibytes[0]:10.1f}{mebibytes[1]:8.1f}{mebibytes[2]:10.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--variants", nargs="+", default=list(BUILDERS), choices=list(BUILDERS))
    arguments = parser.parse_args()
    if arguments.variants[0] != "frozen base":
        parser.error("--variants: name 'frozen base' first, the others are compared with it")
    torch.set_num_threads(arguments.threads)
    for name in arguments.dtypes:
        dtype = getattr(torch, name)
        show(dtype, run(dtype, arguments), arguments)


if __name__ == "__main__":
    main()
