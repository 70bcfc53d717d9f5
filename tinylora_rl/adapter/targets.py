"""Which linears of a Hugging Face model are adapted, in depth order."""

from __future__ import annotations

import dataclasses
import re

from torch import nn

from tinylora_rl.adapter.config import TinyLoraConfig

_BLOCK_INDEX = re.compile(r"\.(\d+)\.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """One adapted module: its Hugging Face name, its block's index, and its type (q_proj, ...)."""

    name: str
    block: int
    type: str

    @property
    def weight_name(self) -> str:
        """The name under which checkpoints, FSDP and vLLM know the weight."""
        return f"{self.name}.weight"


def linear_named(model: nn.Module, name: str) -> nn.Linear:
    """The linear of that name."""
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear), f"{name} is a {type(linear)}"
    return linear


def find_targets(model: nn.Module, config: TinyLoraConfig) -> list[Target]:
    """The adapted modules of `model`, block by block, within a block in `config.target_modules`
    order.

    Raises:
        ValueError: a name in `target_modules` matches nothing, or matches something other than a
            plain nn.Linear (quantised and mixture-of-experts layers are not supported).
    """
    linears: dict[str, set[str]] = {}
    targets = []
    for name, module in model.named_modules():
        block = _BLOCK_INDEX.search(name)
        if block is None:
            continue
        type_ = name.rpartition(".")[2]
        if type_ in config.target_modules:
            if type(module) is not nn.Linear:
                raise ValueError(
                    f"target_modules={type_}: {name} is a {type(module).__qualname__}, only a "
                    "plain nn.Linear can "
                    "be adapted; use a base model that is not quantised, or leave this module out"
                )
            targets.append(Target(name=name, block=int(block[1]), type=type_))
        if isinstance(module, nn.Linear):
            linears.setdefault(type_, set()).add(name)
    missing = [
        type_ for type_ in config.target_modules if type_ not in {target.type for target in targets}
    ]
    if missing:
        raise ValueError(
            f"target_modules={missing[0]}: {type(model).__name__} has no such linear; "
            f"choose from {', '.join(sorted(linears))}"
        )
    return sorted(
        targets, key=lambda target: (target.block, config.target_modules.index(target.type))
    )
