"""Writes the files of a step in an order in which a kill loses nothing.

    update -> v.jsonl -> checkpoint -> sync, validation -> adapter/ -> metrics.jsonl -> the
    checkpoint's manifest

A step counts once its manifest exists (`runs.checkpoints`). A run killed before that takes the step
again, validation and all: its files are those of an undisturbed one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, open_dict
from verl.trainer.ppo.v1 import PPOTrainer

from tinylora_rl import artifact
from tinylora_rl.atomic import free_bytes, full_disk
from tinylora_rl.runs.checkpoints import commit, discard, step_folders
from tinylora_rl.runs.directory import MetricsFile, RunDirectory
from tinylora_rl.runs.stopping import StopFile
from tinylora_rl.runs.vector_log import VectorLog
from tinylora_rl.verl_plugin.checkpoint import ADAPTER_DIR
from tinylora_rl.verl_plugin.samples import telling_metrics

logger = logging.getLogger(__name__)

FULL_BYTES = 1 << 16  # with less room than this, a writer that failed has failed for want of room


class StepCommitTrainer(PPOTrainer):
    """Mixed into verl's trainers: commits every step, and stops between two when asked to."""

    total_training_steps: int

    def __init__(self, config: DictConfig) -> None:
        self._run = RunDirectory(Path(config.run.dir))
        self._stop = StopFile(self._run.path)
        self._taken_step: int | None = None
        self._saved_step: int | None = None
        self._stopped_step: int | None = None
        super().__init__(config)

    # Upstream calls it at the end of `_setup`; afterwards `global_steps` is the resumed step.
    # We cut v.jsonl there. verl validates "before training" on every start; a resumed step has been
    # validated.
    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        self._vectors = VectorLog(self._run.vectors, last_step=self.global_steps)
        if self.global_steps:
            with open_dict(self.config):
                self.config.trainer.val_before_train = False

    # Upstream calls these two after it has made `self.logger`, whichever comes first.
    # We add our file to its trackers.

    def on_validate_begin(self) -> None:
        self._open_metrics_file()
        super().on_validate_begin()

    def on_train_begin(self) -> None:
        self._open_metrics_file()
        super().on_train_begin()

    def _open_metrics_file(self) -> None:
        """Adds metrics.jsonl as the last tracker: its line means that all other outputs exist."""
        if "metrics.jsonl" not in self.logger.logger:
            self.logger.logger["metrics.jsonl"] = _LastTracker(self._run, self._finish_step)

    # Upstream calls it once per step: rollout, log-probs, advantages, update.
    # We write v after it, before anything else about the step. A baseline has none.
    def step(self, metrics: dict, timing_raw: dict) -> Any:
        batch = super().step(metrics, timing_raw)
        self._taken_step = self.global_steps
        if v_GU := self.actor_rollout_wg.vector()[0]:
            self._vectors.append(self.global_steps, v_GU)
        return batch

    # Upstream calls it after `step`, where `save_freq` says so; a failed writer leaves its files.
    # We remove those, and name a disk that is full.
    def _save_checkpoint(self) -> None:
        folder = self._step_folder(self.global_steps)
        discard(folder)  # of a step that was interrupted, or is damaged
        try:
            super()._save_checkpoint()
        except Exception as error:
            is_full = free_bytes(folder) < FULL_BYTES
            described = full_disk(folder)
            discard(folder)
            if is_full:
                raise described from error
            raise
        self._saved_step = self.global_steps

    def _publish_adapter(self, metrics: Mapping[str, Any]) -> None:
        """Copies the adapter of a new checkpoint to `adapter/`, with its scores in the manifest."""
        newest = self._step_folder(self.global_steps) / "actor" / ADAPTER_DIR
        if self._saved_step == self.global_steps and newest.exists():  # a baseline has none
            artifact.open(newest).copy_to(self._run.adapter, metrics=telling_metrics(metrics))

    def _finish_step(self, step: int) -> None:
        """Commits the checkpoint of `step`, about which all else is written; stops if asked to."""
        if step != self._taken_step:  # the validation before training
            return
        for dumped in self._dump_futures:  # validated responses, which verl writes from a thread
            dumped.result()
        reason = self._stop.reason
        stops = reason is not None and step < self.total_training_steps
        if stops and self._saved_step != step:
            self._save_checkpoint()
        if self._saved_step == step:
            commit(self._step_folder(step))
            self._remove_emptied()
        if stops:
            logger.warning("stopping after step %d: %s", step, reason)
            self.total_training_steps = step  # by which verl's loop ends here, as after a last step
            self._stopped_step = step

    # Upstream calls it where its loop ends before the planned last step, that is, where we stopped.
    # We record the step, for the process that asked.
    def on_train_end(self) -> None:
        super().on_train_end()
        if self._stopped_step is not None:
            self._stop.answer(self._stopped_step)

    def _step_folder(self, step: int) -> Path:
        return Path(self.config.trainer.default_local_dir) / f"global_step_{step}"

    def _remove_emptied(self) -> None:
        """Removes what verl leaves of an old checkpoint: all that its workers did not write."""
        for folder in step_folders(Path(self.config.trainer.default_local_dir)):
            if not (folder / "actor").exists():
                discard(folder)


class _LastTracker(MetricsFile):
    """A tracking backend in verl's sense: writes a line to metrics.jsonl, then ends the step."""

    def __init__(self, run: RunDirectory, finish_step: Callable[[int], None]) -> None:
        super().__init__(run.metrics)
        self._finish_step = finish_step

    def log(self, data: Mapping[str, Any], step: int) -> None:
        super().log(data, step)
        self._finish_step(step)
