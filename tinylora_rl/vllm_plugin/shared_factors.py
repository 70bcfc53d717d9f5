"""LoRA factors of many adapters of one base, which share the frozen ones in memory.

All adapters of one rank on one base share U S and Vt; an adapter's own are its matrices R(v), r x r
for each module. Its LoRA factors, A = Vt and B = U S R, are computed on demand.

Legend: O out, I in, R rank, N modules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path

import torch

from tinylora_rl import artifact
from tinylora_rl.adapter import Bank, CheckpointWeights, in_dtype, load_or_build
from tinylora_rl.adapter.delta import acting_vector, mixing_matrix
from tinylora_rl.adapter.projection import draw_projection
from tinylora_rl.adapter.targets import Target, assign_groups, targets_of
from tinylora_rl.artifact import StoredAdapter


@dataclasses.dataclass(frozen=True)
class Family:
    """The factors that adapters of one rank, split and choice of targets share on one base.

    Attributes:
        targets: the adapted modules, in the order of an adapter's R.
        places: {module name: its index in that order}.
        left, right: {module name: U S (O, r)} and {module name: Vt (r, I)}, fp32 on the CPU.
    """

    targets: list[Target]
    places: dict[str, int]
    left: dict[str, torch.Tensor]
    right: dict[str, torch.Tensor]

    @property
    def num_bytes(self) -> int:
        return sum(part.nbytes for side in (self.left, self.right) for part in side.values())


class AdapterFactors:
    """One adapter: R(v) of every module, and its family."""

    def __init__(self, family: Family, R_NRR: torch.Tensor) -> None:
        self._family = family
        self._R_NRR = R_NRR

    @property
    def rank(self) -> int:
        return self._R_NRR.shape[-1]

    @property
    def num_bytes(self) -> int:
        """Counts what this adapter does not share."""
        return self._R_NRR.nbytes

    @property
    def names(self) -> Iterable[str]:
        """Names of the adapted modules in the base's checkpoint."""
        return self._family.places.keys()

    def of(self, name: str) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Computes (A (r, I), B (O, r)) of a module, fp32; None where it is not adapted."""
        place = self._family.places.get(name)
        if place is None:
            return None
        return self._family.right[name], self._family.left[name] @ self._R_NRR[place]


class SharedFactors:
    """Reads adapters of the base model in a folder.

    Args:
        base: the folder; its weights are read where a bank is not in the cache.
        cache_dir: of banks; see `load_or_build`.
    """

    def __init__(self, base: str | Path, *, cache_dir: Path | None = None) -> None:
        self._weights = CheckpointWeights(base)
        self._cache_dir = cache_dir
        self._families: dict[tuple[object, ...], Family] = {}

    @property
    def num_bytes(self) -> int:
        """Counts what adapters share: one bank for each family that was read."""
        return sum(family.num_bytes for family in self._families.values())

    def read(self, directory: str | Path) -> AdapterFactors:
        """Reads an adapter whose fit to the base was verified before.

        Raises:
            ValueError: it is incomplete or damaged.
        """
        adapter = artifact.open(directory)
        config = adapter.config
        family = self._family(adapter)
        groups = assign_groups(family.targets, config)
        v_GU = acting_vector(adapter.v, getattr(torch, config.v_dtype))
        R_NRR = torch.stack(
            [
                mixing_matrix(v_GU[groups[target.name]], draw_projection(config, target.name))
                for target in family.targets
            ]
        )
        return AdapterFactors(family, R_NRR)

    def _family(self, adapter: StoredAdapter) -> Family:
        config, dtype = adapter.config, adapter.base_dtype
        key = (config.r, config.svd_split, config.target_modules, dtype)
        if key not in self._families:
            targets = targets_of(self._weights.names(), config)
            names = [target.weight_name for target in targets]
            base = in_dtype(self._weights, dtype, names)
            bank = load_or_build(base, targets, config, cache_dir=self._cache_dir)
            self._families[key] = _family_of(bank, targets)
        return self._families[key]


def _family_of(bank: Bank, targets: list[Target]) -> Family:
    return Family(
        targets=targets,
        places={target.name: place for place, target in enumerate(targets)},
        left={name: factors.left_OR for name, factors in bank.items()},
        right={name: factors.right_RI for name, factors in bank.items()},
    )
