"""Turns a run's configuration and tokenised rows into what verl's SFT trainer reads.

Not through verl's own data set: it tokenises message by message, puts the line break after an
answer's last token into the loss, and does not see the prompt as a rollout does.

Legend: T tokens of one sequence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch.utils.data import Dataset


def trainer_config(config: DictConfig) -> DictConfig:
    """Adds to `config`, kept for the trackers, what verl's `sft_trainer_engine` has besides.

    Model, engine, optimiser and checkpoint are the actor's of reinforcement learning.
    """
    composed = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
    assert isinstance(composed, DictConfig)
    actor = composed.actor_rollout_ref.actor
    val_file = Path(config.data.val_files)
    with open_dict(composed):
        composed.model = composed.actor_rollout_ref.model
        composed.data = {
            **composed.data,
            "train_batch_size": config.sft.batch_size,
            "val_files": str(val_file) if val_file.exists() else None,
            "custom_cls": {
                "path": f"pkg://{TokenDataset.__module__}",
                "name": TokenDataset.__name__,
            },
            "pad_mode": "no_padding",
            "num_workers": config.data.dataloader_num_workers,
            "use_dynamic_bsz": actor.use_dynamic_bsz,
            "max_token_len_per_gpu": actor.ppo_max_token_len_per_gpu,
            "micro_batch_size_per_gpu": actor.ppo_micro_batch_size_per_gpu,
        }
        composed.trainer = {
            **composed.trainer,
            "save_freq": config.sft.save_freq,
            "test_freq": "after_each_epoch" if val_file.exists() else -1,
            "max_ckpt_to_keep": config.sft.max_checkpoints,
        }
    return composed


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
        """Returns int64 tensors of shape (T,); `loss_mask` is 1 from the target's first token."""
        prompt, target = self._pairs[index]
        return {
            "input_ids": torch.tensor([*prompt, *target]),
            "position_ids": torch.arange(len(prompt) + len(target)),
            "loss_mask": torch.tensor([0] * len(prompt) + [1] * len(target)),
        }
