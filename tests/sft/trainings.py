"""Several supervised trainings in one process: `trainings FOLDER CONFIG...`, one after the other.

Each CONFIG is a resolved configuration with prepared data; its run directory may have checkpoints.
"""

import sys

import torch
from omegaconf import DictConfig, OmegaConf

from tinylora_rl.verl_plugin.sft.policy import write_policy
from tinylora_rl.verl_plugin.sft.settings import trainer_config
from tinylora_rl.verl_plugin.sft.trainer import TinyLoraSFTTrainer

if __name__ == "__main__":
    torch.distributed.init_process_group("cpu:gloo")
    for path in sys.argv[1:]:
        config = OmegaConf.load(path)
        assert isinstance(config, DictConfig)
        torch.manual_seed(config.data.seed)
        trainer = TinyLoraSFTTrainer(config=trainer_config(config))
        trainer.fit()
        write_policy(trainer.engine, config)
    torch.distributed.destroy_process_group()
