"""Several supervised trainings in one process: `trainings FOLDER CONFIG...`, one after the other.

Each CONFIG is a resolved configuration with prepared data; its run directory may have checkpoints.
Where a file `.ask` lies beside CONFIG, the training is asked to stop, in the way that it says.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from tinylora_rl.runs.stopping import StopFile
from tinylora_rl.settings.compose import compose
from tinylora_rl.settings.experiment import read
from tinylora_rl.supervised.trainer import TinyLoraSFTTrainer
from tinylora_rl.supervised.trainer_config import trainer_config
from tinylora_rl.training.resume import choose_beginning

if __name__ == "__main__":
    torch.distributed.init_process_group("cpu:gloo")
    for path in sys.argv[1:]:
        config = OmegaConf.load(path)
        assert isinstance(config, DictConfig)
        overrides = Path(path).with_suffix(".overrides").read_text().splitlines()
        experiment = read(compose("sft", overrides, run_dir=config.run.dir))
        checkpoint = choose_beginning(experiment).checkpoint
        config.trainer.resume_mode = "disable" if checkpoint is None else "resume_path"
        config.trainer.resume_from_path = None if checkpoint is None else str(checkpoint)
        torch.manual_seed(config.data.seed)
        trainer = TinyLoraSFTTrainer(config=trainer_config(config))
        stop = StopFile(Path(config.run.dir))
        asked = Path(path).with_suffix(".ask")
        if asked.exists():
            if asked.read_text() == "file":
                stop.ask("test")
            else:
                os.kill(os.getpid(), signal.SIGTERM)
        trainer.fit()
        assert trainer.stopped == asked.exists()
        stop.clear()
        if not trainer.stopped:
            tokenizer = trainer.engine.model_config.tokenizer
            experiment.method.save_policy(trainer.engine.module, tokenizer, experiment.run.dir)
    torch.distributed.destroy_process_group()
