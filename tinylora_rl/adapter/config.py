"""Describes a TinyLoRA adapter before any model is loaded. Imports no torch.

Legend: N adapted modules, G groups (of modules that share one v), u numbers per group, r rank.
Source: arXiv 2602.04118, section on TinyLoRA; the count of trained numbers is u * G.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

TARGET_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The seven linears of a Qwen2, Qwen2.5, Qwen3 or Llama block, in depth order."""

TIE_MODES = ("all", "tiled", "structured", "none")
PROJECTIONS = ("normal", "uniform", "rademacher", "basis")
PROJECTION_SCALINGS = ("none", "inverse_sqrt_u")
SVD_SPLITS = ("paper", "sqrt")
V_DTYPES = ("float32", "bfloat16", "float16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TinyLoraConfig:
    """States the adapter W' = W + U S (sum_i v_i P_i) Vt completely.

    One family: TinyLoRA has a random P; LoRA-XS is `projection="basis"` with u = r*r, whose
    sum_i v_i P_i is the trained matrix R itself, row by row; LoRA-XS with tied R is that with
    n_tie > 1. Two adapters with equal configurations on the same base weights are the same
    function of v. Fields that the paper leaves open are marked (open); their defaults are what
    public re-implementations use.

    Attributes:
        r: rank of the truncated SVD of each frozen weight. 2 in the paper's main experiments.
        u: trained numbers per group.
        n_tie: how many modules (tiled) or blocks (structured) share one v, or "all".
        tie_mode: "tiled" shares among neighbours in depth order whatever their type, "structured"
            among modules of one type in neighbouring blocks, "all" among all modules (the same as
            tiled with n_tie="all"), "none" not at all (the same as tiled with n_tie=1).
        projection: distribution of the entries of P (open): "normal", "uniform" (on
            +-sqrt(3) deviations), "rademacher" (+-1 deviation), all with mean 0, independent per
            module; or "basis", the r*r matrices with a single 1, the same in every module.
        projection_std: standard deviation of the entries of P; None means 1/sqrt(r), so that
            P ~ N(0, 1/r) (open). A basis has none.
        projection_scaling: "inverse_sqrt_u" divides P by sqrt(u), so that the size of R does not
            grow with u for entries of v of one size; "none" leaves P as drawn (open).
        svd_split: "paper" is U S R Vt; "sqrt" is U sqrt(S) R sqrt(S) Vt as PEFT has it, which is a
            different function of v.
        seed: seeds every P together with its module's name (open).
        target_modules: last components of the names of the linears to adapt, in depth order.
        v_dtype: dtype in which v acts: every forward pass and merge sees v rounded to it.
        v_master: true lets the optimiser move an fp32 copy of v, rounded to v_dtype wherever it
            is used, with the gradient passed straight through. False makes v itself a tensor of
            v_dtype: its steps then vanish where they are below half a unit in its last place,
            which in bfloat16 stops Adam at about |v| = 256 to 400 times the learning rate.
            The paper does not say which of the two its figure 4 compares (open).

    Raises:
        ValueError: a field is out of range; the message names the field, the value and the fix.
    """

    r: int = 2
    u: int = 13
    n_tie: int | Literal["all"] = "all"
    tie_mode: Literal["all", "tiled", "structured", "none"] = "tiled"
    projection: Literal["normal", "uniform", "rademacher", "basis"] = "normal"
    projection_std: float | None = None
    projection_scaling: Literal["none", "inverse_sqrt_u"] = "none"
    svd_split: Literal["paper", "sqrt"] = "paper"
    seed: int = 0
    target_modules: tuple[str, ...] = TARGET_MODULES
    v_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    v_master: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.target_modules, str):
            raise ValueError(
                f"target_modules={self.target_modules!r}: give a list, as [{self.target_modules}]"
            )
        object.__setattr__(self, "target_modules", tuple(self.target_modules))
        _at_least_one("r", self.r)
        _at_least_one("u", self.u)
        if self.n_tie != "all":
            _at_least_one("n_tie", self.n_tie, otherwise=', or "all" to share one v everywhere')
        _one_of("tie_mode", self.tie_mode, TIE_MODES)
        _one_of("projection", self.projection, PROJECTIONS)
        _one_of("projection_scaling", self.projection_scaling, PROJECTION_SCALINGS)
        _one_of("svd_split", self.svd_split, SVD_SPLITS)
        _one_of("v_dtype", self.v_dtype, V_DTYPES)
        if self.tie_mode == "all" and self.n_tie != "all":
            raise ValueError(
                f"n_tie={self.n_tie}: tie_mode=all shares one v; use n_tie=all or tie_mode=tiled"
            )
        if self.tie_mode == "none" and self.n_tie != 1:
            raise ValueError(
                f"n_tie={self.n_tie}: tie_mode=none ties nothing; use n_tie=1 or tie_mode=tiled"
            )
        if self.projection_std is not None and not self.projection_std > 0:
            raise ValueError(
                f"projection_std={self.projection_std}: use a positive number, or null for "
                "1/sqrt(r)"
            )
        if self.projection == "basis":
            self._check_basis()
        if not isinstance(self.v_master, bool):
            raise ValueError(f"v_master={self.v_master!r}: use true or false")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ValueError(f"seed={self.seed!r}: use an integer")
        if not self.target_modules:
            raise ValueError("target_modules=[]: name at least one linear, for example q_proj")
        if len(set(self.target_modules)) != len(self.target_modules):
            raise ValueError(f"target_modules={list(self.target_modules)}: name each linear once")

    def _check_basis(self) -> None:
        if self.u != self.r * self.r:
            raise ValueError(
                f"u={self.u}: projection=basis trains the r*r={self.r * self.r} entries of R; "
                f"use u={self.r * self.r}, or a random projection"
            )
        if self.projection_std is not None:
            raise ValueError(
                f"projection_std={self.projection_std}: projection=basis has entries 0 and 1; "
                "leave it null"
            )
        if self.projection_scaling != "none":
            raise ValueError(
                f"projection_scaling={self.projection_scaling}: projection=basis has entries 0 and "
                "1; use none"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TinyLoraConfig:
        """Builds the configuration from `values`; an unknown key is a ValueError that names it."""
        known = {field.name for field in dataclasses.fields(cls)}
        for key in values:
            if key not in known:
                raise ValueError(
                    f"{key}={values[key]!r}: no such field; choose from {', '.join(sorted(known))}"
                )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values that `from_dict` and JSON take back."""
        return {**dataclasses.asdict(self), "target_modules": list(self.target_modules)}

    @property
    def std(self) -> float:
        """Standard deviation of the entries of a random P, its scaling included."""
        std = 1 / math.sqrt(self.r) if self.projection_std is None else self.projection_std
        return std / math.sqrt(self.u) if self.projection_scaling == "inverse_sqrt_u" else std

    def num_groups(self, *, num_modules: int) -> int:
        """Counts G on a model with `num_modules` adapted modules, len(target_modules) a block.

        Raises:
            ValueError: tie_mode is structured and the modules do not fill whole blocks.
        """
        _at_least_one("num_modules", num_modules)
        if self.n_tie == "all" and self.tie_mode != "structured":
            return 1
        if self.tie_mode != "structured":
            return math.ceil(num_modules / int(self.n_tie))
        num_types = len(self.target_modules)
        if num_modules % num_types:
            raise ValueError(
                f"tie_mode=structured: {num_modules} modules are no whole number of blocks of "
                f"{num_types}; "
                "use tie_mode=tiled"
            )
        num_blocks = num_modules // num_types
        return num_types * (1 if self.n_tie == "all" else math.ceil(num_blocks / int(self.n_tie)))

    def num_parameters(self, *, num_modules: int) -> int:
        """Counts trained numbers, u * G, as in the paper's tables 1 and 2."""
        return self.u * self.num_groups(num_modules=num_modules)


def _at_least_one(key: str, value: object, otherwise: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{key}={value!r}: use an integer of at least 1{otherwise}")


def _one_of(key: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{key}={value!r}: choose from {', '.join(choices)}")
