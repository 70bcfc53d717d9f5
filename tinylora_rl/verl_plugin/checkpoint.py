"""Saves and loads training checkpoints: v, optimizer, scheduler and RNG state, a few kilobytes.

verl saves the position in the data beside it (`data.pt`); the whole counts once it has a manifest
(`runs.checkpoints`). The base is never saved.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from verl.utils.checkpoint.checkpoint_manager import BaseCheckpointManager
from verl.utils.device import get_device_name, get_torch_device

from tinylora_rl import artifact
from tinylora_rl.adapter import Adapter
from tinylora_rl.atomic import replacing_directory

ADAPTER_DIR = "adapter"
STATE = "trainer_state.safetensors"
SCHEDULER = "scheduler.json"


class TinyLoraCheckpointManager(BaseCheckpointManager):
    """verl's checkpoint interface over one adapter. safetensors and JSON only."""

    def __init__(
        self,
        *,
        adapter: Adapter,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: torch.optim.lr_scheduler.LRScheduler,
        provenance: dict[str, Any],
    ) -> None:
        super().__init__(model=None, optimizer=optimizer, lr_scheduler=lr_scheduler)
        self.adapter = adapter
        self.provenance = provenance

    # Upstream's engine calls it in `_save_checkpoint`, on all ranks, with the actor's folder.
    # We let rank 0 write the state of all, v once.
    def save_checkpoint(
        self,
        local_path: str,
        hdfs_path: str | None = None,
        global_step: int = 0,
        max_ckpt_to_keep: int | None = None,
    ) -> None:
        """Writes the whole state of all ranks to `local_path`, or nothing and DiskFullError."""
        if hdfs_path is not None:
            raise ValueError(
                "trainer.default_hdfs_dir: not supported; a checkpoint is a few kilobytes, copy it"
            )
        rng_states: list[dict[str, torch.Tensor]] = [{}] * self.world_size
        dist.all_gather_object(rng_states, _rng_state())
        if self.rank == 0:
            self.ensure_checkpoint_capacity(max_ckpt_to_keep)
            with replacing_directory(Path(local_path)) as fresh:
                optimizer = self._optimizer_state()
                tensors = {f"optimizer.{key}": value for key, value in optimizer.items()}
                for rank, state in enumerate(rng_states):
                    tensors |= {f"rng.{rank}.{key}": value for key, value in state.items()}
                # written by Python, whose error names a full disk
                (fresh / STATE).write_bytes(save(tensors))
                (fresh / SCHEDULER).write_text(json.dumps(self._scheduler_state()))
                provenance = {**self.provenance, "global_step": global_step}
                artifact.save(self.adapter, fresh / ADAPTER_DIR, provenance)
            self.register_checkpoint(str(local_path), max_ckpt_to_keep)
        dist.barrier()

    # Upstream's engine calls it in `_load_checkpoint`, on all ranks, where a run is resumed.
    # We check that the checkpoint fits this run before anything is changed.
    def load_checkpoint(
        self, local_path: str, hdfs_path: str | None = None, del_local_after_load: bool = False
    ) -> None:
        """Restores v, optimiser, scheduler and this rank's generators.

        Raises:
            ValueError: the checkpoint is incomplete or damaged, belongs to another base, adapter or
                number of ranks; nothing was changed then.
        """
        path = Path(local_path)
        stored = artifact.open(path / ADAPTER_DIR)
        if stored.config != self.adapter.config:
            raise ValueError(
                f"{path}: was saved with adapter {stored.config.to_dict()}, this run has "
                f"{self.adapter.config.to_dict()}; "
                "resume with the same adapter, or start a new run directory"
            )
        if self.rank == 0:
            stored.check_identity(self.adapter.identity)
        try:
            tensors = load_file(str(path / STATE))
            scheduler = json.loads((path / SCHEDULER).read_text())
        except (OSError, SafetensorError, ValueError) as error:
            raise ValueError(
                f"{path}: damaged ({error}); resume from an earlier step with "
                "trainer.resume=.../global_step_N"
            ) from error
        prefix = f"rng.{self.rank}."
        own = {key: value for key, value in tensors.items() if key.startswith(prefix)}
        saved_ranks = len({key.split(".")[1] for key in tensors if key.startswith("rng.")})
        if saved_ranks != self.world_size:
            raise ValueError(
                f"{path}: was saved by {saved_ranks} ranks, this run has {self.world_size}; use as "
                "many"
            )
        if scheduler["base_lrs"] != self.lr_scheduler.base_lrs:
            raise ValueError(
                f"{path}: was saved with optim.lr={scheduler['base_lrs'][0]:g}, this run has "
                f"{self.lr_scheduler.base_lrs[0]:g}; resume with the same, or in a new run.dir"
            )
        v = self.adapter.v
        v.data.copy_(stored.v)
        state = self.optimizer.state[v]
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                name = key.removeprefix("optimizer.")
                # Adam keeps its step counter on the CPU, its moments beside the parameter
                state[name] = value if value.ndim == 0 else value.to(v.device)
        self.lr_scheduler.load_state_dict(scheduler)
        # LambdaLR keeps its rate in the optimiser and does not put it back there by itself
        rates = self.lr_scheduler.get_last_lr()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        _set_rng_state({key.removeprefix(prefix): value for key, value in own.items()})
        dist.barrier()
        if del_local_after_load and self.rank == 0:
            shutil.rmtree(path)

    def _optimizer_state(self) -> dict[str, torch.Tensor]:
        state = self.optimizer.state[self.adapter.v]
        return {key: torch.as_tensor(value).detach().cpu().clone() for key, value in state.items()}

    def _scheduler_state(self) -> dict[str, Any]:
        # the schedule's function is configuration, its position is state
        lambdas = {"lr_lambdas": [None] * len(self.lr_scheduler.base_lrs)}
        return self.lr_scheduler.state_dict() | lambdas


def _rng_state() -> dict[str, torch.Tensor]:
    version, internal, gauss = random.getstate()
    assert version == 3
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "torch": torch.get_rng_state(),
        "python": torch.tensor(internal, dtype=torch.int64),
        "python_gauss": torch.tensor([math.nan if gauss is None else gauss], dtype=torch.float64),
        "numpy_keys": torch.from_numpy(np.asarray(keys, dtype=np.int64)),
        "numpy_position": torch.tensor([position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([cached], dtype=torch.float64),
    }
    if get_device_name() != "cpu":
        state["device"] = get_torch_device().get_rng_state()
    return state


def _set_rng_state(state: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(state["torch"])
    gauss = float(state["python_gauss"])
    random.setstate((3, tuple(state["python"].tolist()), None if math.isnan(gauss) else gauss))
    position, has_gauss = state["numpy_position"].tolist()
    keys = state["numpy_keys"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", keys, position, has_gauss, float(state["numpy_gauss"])))
    if "device" in state:
        get_torch_device().set_rng_state(state["device"])
