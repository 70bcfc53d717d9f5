"""The trained policy in a form that others read, written once, after the last step.

| adapter | what is written |
|---|---|
| `tinylora`, `lora_xs` | nothing: the newest checkpoint has the artifact already |
| `lora` | `adapter/`, a PEFT LoRA folder |
| `full` | `model/`, a Hugging Face folder with the base's tokenizer |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from tinylora_rl.atomic import replacing_directory
from tinylora_rl.runs.directory import RunDirectory
from tinylora_rl.verl_plugin.settings import MODEL_TYPE

MODEL_DIR = "model"


def write_policy(engine: Any, config: DictConfig) -> None:
    """See the module; all ranks call it, rank 0 writes.

    Weights are written in the dtype they were trained in.
    """
    if config.actor_rollout_ref.model.model_type == MODEL_TYPE:
        return
    gathered = get_model_state_dict(
        engine.module, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    if torch.distributed.get_rank() == 0:
        run = RunDirectory(Path(config.run.dir))
        is_lora = config.actor_rollout_ref.model.lora_rank > 0
        with replacing_directory(run.adapter if is_lora else run.path / MODEL_DIR) as fresh:
            # of a PEFT model this saves the LoRA factors and their configuration alone
            engine.module.save_pretrained(fresh, state_dict=gathered)
            if is_lora:
                (fresh / "README.md").unlink(missing_ok=True)  # PEFT's form, left blank
            else:
                engine.model_config.tokenizer.save_pretrained(fresh)
    torch.distributed.barrier()
