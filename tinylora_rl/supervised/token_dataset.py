"""Sequences that were tokenised and checked before the run, as verl's SFT trainer takes them.

Not verl's own data set: it tokenises message by message, puts the line break after an answer's last
token into the loss, and does not see the prompt as a rollout does.

Legend: T tokens of one sequence.
"""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
import torch
from torch.utils.data import Dataset


class TokenDataset(Dataset):
    """Columns `prompt_ids` and `target_ids` of a parquet file. The loss counts the target alone.

    The arguments are those that verl gives to `data.custom_cls`.
    """

    def __init__(
        self,
        parquet_files: str,
        tokenizer: Any = None,
        config: Any = None,
        processor: Any = None,
        max_samples: int = -1,
    ) -> None:
        del tokenizer, config, processor, max_samples
        columns = pq.read_table(parquet_files, columns=["prompt_ids", "target_ids"]).to_pydict()
        self._pairs = list(zip(columns["prompt_ids"], columns["target_ids"], strict=True))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """int64 tensors of shape (T,); `loss_mask` is 1 from the target's first token on."""
        prompt, target = self._pairs[index]
        return {
            "input_ids": torch.tensor([*prompt, *target]),
            "position_ids": torch.arange(len(prompt) + len(target)),
            "loss_mask": torch.tensor([0] * len(prompt) + [1] * len(target)),
        }
