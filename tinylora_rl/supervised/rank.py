"""Runs one rank of a supervised run: `python -m tinylora_rl.supervised.rank CONFIG PARENT`.

`ranks` starts it, and states rank and rendezvous in torchrun's variables; PARENT is its process
number.
"""

from __future__ import annotations

import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.errors import EXIT_SIGNAL
from tinylora_rl.methods import method_of_run
from tinylora_rl.supervised.ranks import die_with_parent


def train(config: DictConfig) -> int:
    """Trains, and writes checkpoints, metrics and the policy.

    Returns:
        The exit code: 0, or 75 when it was asked to stop, and did after a checkpoint.
    """
    import torch
    from verl.utils.device import get_device_name
    from verl.utils.distributed import destroy_global_process_group, initialize_global_process_group

    from tinylora_rl.settings.in_workers import register_in_worker
    from tinylora_rl.supervised.trainer import TinyLoraSFTTrainer
    from tinylora_rl.supervised.trainer_config import trainer_config

    if get_device_name() == "cpu":
        # verl 0.9.1 asks for "cpu:gloo,<device>:<backend>", which torch refuses where the device is
        # the CPU itself.
        torch.distributed.init_process_group("cpu:gloo")
    else:
        initialize_global_process_group()
    register_in_worker(config.actor_rollout_ref.model.lora)
    torch.manual_seed(config.data.seed)  # where LoRA starts; every rank draws the same
    trainer = TinyLoraSFTTrainer(config=trainer_config(config))
    trainer.fit()
    if not trainer.stopped:
        engine, run_dir = trainer.engine, Path(config.run.dir)
        method = method_of_run(OmegaConf.to_container(config))  # type: ignore[arg-type]
        method.save_policy(engine.module, engine.model_config.tokenizer, run_dir)
    destroy_global_process_group()
    return EXIT_SIGNAL if trainer.stopped else 0


def main() -> None:
    die_with_parent(int(sys.argv[2]))
    config = OmegaConf.load(Path(sys.argv[1]))
    assert isinstance(config, DictConfig)
    sys.exit(train(config))


if __name__ == "__main__":
    main()
