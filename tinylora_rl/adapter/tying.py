"""Which module belongs to which group: modules of one group share one row of v.

Source: arXiv 2602.04118, "tiled" and "structured" sharing; counts in its tables 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.targets import Target


def assign_groups(targets: Sequence[Target], config: TinyLoraConfig) -> dict[str, int]:
    """{module name: group index}; indices are contiguous from 0, in depth order of first use.

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
