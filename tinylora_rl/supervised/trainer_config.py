"""From a run's configuration to the one that verl's SFT trainer reads."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from tinylora_rl.supervised.token_dataset import TokenDataset


def trainer_config(config: DictConfig) -> DictConfig:
    """`config` as it is, for the trackers, with what verl's `sft_trainer_engine` has besides.

    Model, engine, optimiser and checkpoint are the actor's of reinforcement learning; the trainer
    builds them from `actor_rollout_ref`, as verl's worker does.
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
