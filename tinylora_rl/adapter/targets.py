"""Finds the linears of a base model to adapt, in depth order, and groups those that share v.

Source: arXiv 2602.04118, "tiled" and "structured" sharing; counts in its tables 1 and 2.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from torch import nn

from tinylora_rl.adapter.config import TinyLoraConfig

_BLOCK_INDEX = re.compile(r"\.(\d+)\.")
_EXPERTS = re.compile(r"\.(experts|shared_experts?)\.")
_MLP_TYPES = ("gate_proj", "up_proj", "down_proj")
_PACKED = (".qweight", ".weight_packed", ".SCB", ".weight_scale", ".weight_scale_inv")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """One adapted module: its Hugging Face name, its block's index, and its type (q_proj, ...)."""

    name: str
    block: int
    type: str

    @property
    def weight_name(self) -> str:
        """The weight's name in checkpoints, FSDP and vLLM."""
        return f"{self.name}.weight"


def linear_named(model: nn.Module, name: str) -> nn.Linear:
    """Returns the linear of that name."""
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear), f"{name} is a {type(linear)}"
    return linear


def find_targets(model: nn.Module, config: TinyLoraConfig) -> list[Target]:
    """Finds the adapted modules of `model`, block by block, then in `config.target_modules` order.

    Raises:
        ValueError: a name in `target_modules` matches nothing, or matches something other than a
            plain nn.Linear (quantised and mixture-of-experts layers are not supported).
    """
    _refuse_experts((name for name, _ in model.named_parameters()), config)
    modules = dict(model.named_modules())
    targets = _in_depth_order(modules, config)
    for target in targets:
        if type(modules[target.name]) is not nn.Linear:
            raise ValueError(
                f"target_modules={target.type}: {target.name} is a "
                f"{type(modules[target.name]).__qualname__}, only a plain nn.Linear can be "
                "adapted; use a base model that is not quantised, or leave this module out"
            )
    linears = (name for name, module in modules.items() if isinstance(module, nn.Linear))
    _refuse_missing(targets, config, linears, where=type(model).__name__)
    return targets


def targets_of(weight_names: Iterable[str], config: TinyLoraConfig) -> list[Target]:
    """Finds what `find_targets` does, from the names of the model's weights alone.

    Args:
        weight_names: as in a checkpoint, "model.layers.0.self_attn.q_proj.weight", in any order.

    Raises:
        ValueError: a name in `target_modules` matches nothing, or a weight of a quantised or a
            mixture-of-experts layer.
    """
    weight_names = list(weight_names)
    _refuse_experts(weight_names, config)
    for weight_name in weight_names:
        module_name = weight_name.rpartition(".")[0]
        if weight_name.endswith(_PACKED) and module_name.rpartition(".")[2] in (
            config.target_modules
        ):
            raise ValueError(
                f"target_modules={module_name.rpartition('.')[2]}: {weight_name} belongs to a "
                "quantised layer, which is not supported yet; use a base model in bf16, fp16 or "
                "fp32"
            )
    modules = [name.removesuffix(".weight") for name in weight_names if name.endswith(".weight")]
    targets = _in_depth_order(modules, config)
    _refuse_missing(targets, config, modules, where="the checkpoint")
    return targets


def assign_groups(targets: Sequence[Target], config: TinyLoraConfig) -> dict[str, int]:
    """Returns {module name: group index}; modules of one group share one row of v.

    Indices are contiguous from 0, in depth order of first use.

    Args:
        targets: the adapted modules in depth order, as `find_targets` gives them.

    Raises:
        ValueError: tie_mode is structured and some block lacks a module type that another has.
    """
    num_groups = config.num_groups(num_modules=len(targets))
    if config.tie_mode != "structured":
        n_tie = len(targets) if config.n_tie == "all" else int(config.n_tie)
        return {target.name: position // n_tie for position, target in enumerate(targets)}

    blocks = sorted({target.block for target in targets})
    num_types = len(config.target_modules)
    if len(targets) != len(blocks) * num_types:
        raise ValueError(
            "tie_mode=structured: the blocks differ in their modules; use tie_mode=tiled"
        )
    blocks_per_group = len(blocks) if config.n_tie == "all" else int(config.n_tie)
    groups = {
        target.name: blocks.index(target.block) // blocks_per_group * num_types
        + config.target_modules.index(target.type)
        for target in targets
    }
    assert len(set(groups.values())) == num_groups
    return groups


def _in_depth_order(module_names: Iterable[str], config: TinyLoraConfig) -> list[Target]:
    targets = []
    for name in module_names:
        block = _BLOCK_INDEX.search(name)
        type_ = name.rpartition(".")[2]
        if block is not None and type_ in config.target_modules:
            targets.append(Target(name=name, block=int(block[1]), type=type_))
    return sorted(targets, key=lambda t: (t.block, config.target_modules.index(t.type), t.name))


def _refuse_experts(weight_names: Iterable[str], config: TinyLoraConfig) -> None:
    types = [type_ for type_ in config.target_modules if type_ in _MLP_TYPES]
    for name in weight_names if types else ():
        if _EXPERTS.search(name):
            raise ValueError(
                f"target_modules={types[0]}: mixture-of-experts weights ({name}) are not supported "
                "yet; adapt attention alone, target_modules=[q_proj,k_proj,v_proj,o_proj]"
            )


def _refuse_missing(
    targets: list[Target], config: TinyLoraConfig, modules: Iterable[str], *, where: str
) -> None:
    found = {target.type for target in targets}
    missing = [type_ for type_ in config.target_modules if type_ not in found]
    if missing:
        types = {name.rpartition(".")[2] for name in modules if _BLOCK_INDEX.search(name)}
        raise ValueError(
            f"target_modules={missing[0]}: {where} has no such linear; "
            f"choose from {', '.join(sorted(types))}"
        )
