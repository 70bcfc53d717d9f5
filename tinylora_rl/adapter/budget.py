"""Lists the adapters that fit a budget of trained numbers, or of bytes, on a given base model.

Legend: N adapted modules, G groups (of modules that share one v), u numbers per group, r rank.
Source: arXiv 2602.04118: use up u, down to u = 1, before tying more modules; tiled before
structured. So the first plan of the list is the paper's choice.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tinylora_rl.adapter.config import TARGET_MODULES, TinyLoraConfig
from tinylora_rl.adapter.targets import Target, assign_groups

BYTES_PER_NUMBER = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdapterPlan:
    """One adapter within the budget.

    Attributes:
        config: what to train.
        num_groups: G.
        num_parameters: u * G.
        num_bytes: of v in its dtype; files add a header, the optimiser its moments.
        degrees_of_freedom: dimensions of weight space that v reaches. A group of m modules has
            min(u, m * r*r) with a random P in each, min(u, r*r) with the basis, the same in all.
    """

    config: TinyLoraConfig
    num_groups: int
    num_parameters: int
    num_bytes: int
    degrees_of_freedom: int

    @property
    def warning(self) -> str | None:
        """Names the numbers that add nothing but a larger step; None where all count."""
        spare = self.num_parameters - self.degrees_of_freedom
        if spare == 0:
            return None
        return (
            f"u={self.config.u}: {spare} of {self.num_parameters} numbers are redundant at "
            f"r={self.config.r}, n_tie={self.config.n_tie}; a smaller u reaches the same updates"
        )


def plan_budget(
    shape: Mapping[str, Any] | Sequence[Target],
    *,
    num_parameters: int | None = None,
    num_bytes: int | None = None,
    r: int = 2,
    projection: Literal["normal", "uniform", "rademacher", "basis"] = "normal",
    v_dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    target_modules: Sequence[str] = TARGET_MODULES,
) -> list[AdapterPlan]:
    """Returns the adapters that fit, those with more groups first.

    For each tie mode and each number of groups that some n_tie gives: the one with the largest u.

    Args:
        shape: a transformers configuration as a dictionary (its `num_hidden_layers` counts, every
            block having all of `target_modules`), or the targets that `find_targets` gave.
        num_parameters: the most numbers to train; or
        num_bytes: the most bytes of v in `v_dtype`. Exactly one of the two.

    Raises:
        ValueError: not exactly one budget, a budget below one number, a shape without blocks, or
            LoRA-XS (projection=basis), whose u is r*r, in a budget below that.
    """
    budget = _budget(num_parameters, num_bytes, v_dtype)
    targets = _targets(shape, target_modules)
    types = tuple(dict.fromkeys(target.type for target in targets))
    num_blocks = len({target.block for target in targets})
    is_basis = projection == "basis"
    if is_basis and budget < r * r:
        raise ValueError(
            f"num_parameters={budget}: projection=basis trains r*r={r * r} numbers per group; "
            f"use at least {r * r}, or a random projection"
        )
    ties: list[tuple[str, int, int]] = [("tiled", n, len(targets)) for n in _levels(len(targets))]
    if len(targets) == num_blocks * len(types):
        ties += [("structured", n, num_blocks) for n in _levels(num_blocks)]
    plans = []
    for tie_mode, n_tie, most in ties:
        fields: dict[str, Any] = {
            "r": r,
            "n_tie": "all" if n_tie == most > 1 else n_tie,
            "tie_mode": tie_mode,
            "projection": projection,
            "v_dtype": v_dtype,
            "target_modules": types,
        }
        groups = TinyLoraConfig(u=r * r, **fields).num_groups(num_modules=len(targets))
        u = r * r if is_basis else budget // groups
        if 1 <= u <= budget // groups:
            plans.append(_plan(TinyLoraConfig(u=u, **fields), targets))
    return sorted(plans, key=lambda plan: (-plan.num_groups, plan.config.tie_mode != "tiled"))


def degrees_of_freedom(targets: Sequence[Target], config: TinyLoraConfig) -> int:
    """Computes the rank of the linear map from v to all the updates of all modules."""
    entries = config.r * config.r
    sizes = Counter(assign_groups(targets, config).values())
    if config.projection == "basis":
        return len(sizes) * min(config.u, entries)
    return sum(min(config.u, size * entries) for size in sizes.values())


def _plan(config: TinyLoraConfig, targets: Sequence[Target]) -> AdapterPlan:
    count = config.num_parameters(num_modules=len(targets))
    return AdapterPlan(
        config=config,
        num_groups=count // config.u,
        num_parameters=count,
        num_bytes=count * BYTES_PER_NUMBER[config.v_dtype],
        degrees_of_freedom=degrees_of_freedom(targets, config),
    )


def _levels(count: int) -> list[int]:
    """Returns the smallest n for each value of ceil(count / n).

    A larger one would tie more modules for no fewer groups.
    """
    smallest: dict[int, int] = {}
    for n_tie in range(1, count + 1):
        smallest.setdefault(-(-count // n_tie), n_tie)
    return list(smallest.values())


def _budget(num_parameters: int | None, num_bytes: int | None, v_dtype: str) -> int:
    if (num_parameters is None) == (num_bytes is None):
        raise ValueError(
            f"num_parameters={num_parameters}, num_bytes={num_bytes}: give exactly one of the two"
        )
    if v_dtype not in BYTES_PER_NUMBER:
        raise ValueError(f"v_dtype={v_dtype!r}: choose from {', '.join(BYTES_PER_NUMBER)}")
    size = BYTES_PER_NUMBER[v_dtype]
    if num_parameters is not None:
        key, value, budget = "num_parameters", num_parameters, num_parameters
    else:
        assert num_bytes is not None
        key, value, budget = "num_bytes", num_bytes, num_bytes // size
    if budget < 1:
        raise ValueError(f"{key}={value}: pays for no number of {size} bytes; raise it")
    return budget


def _targets(shape: Mapping[str, Any] | Sequence[Target], types: Sequence[str]) -> list[Target]:
    if not isinstance(shape, Mapping):
        targets = list(shape)
        if not targets:
            raise ValueError("shape=[]: no target; give those of find_targets")
        return targets
    num_blocks = shape.get("num_hidden_layers")
    if not isinstance(num_blocks, int) or num_blocks < 1:
        raise ValueError(
            f"num_hidden_layers={num_blocks!r}: give the configuration of a model with blocks"
        )
    return [
        Target(name=f"model.layers.{block}.{type_}", block=block, type=type_)
        for block in range(num_blocks)
        for type_ in types
    ]
