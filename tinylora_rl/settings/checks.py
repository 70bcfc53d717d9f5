"""Checks across the sections of an experiment, and the overrides of `sft`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import JUDGES
from tinylora_rl.settings import sections, verl_sections
from tinylora_rl.settings.compose import current_keys
from tinylora_rl.settings.section import Section, unresolved_as_config_error

if TYPE_CHECKING:
    from tinylora_rl.settings.experiment import Experiment

Check = Callable[["Experiment"], None]


def _method(experiment: Experiment) -> None:
    """Checks that verl's model node trains what the method says."""
    model = OmegaConf.select(experiment.tree, "actor_rollout_ref.model")
    experiment.method.check_verl_model(model)


def _judge(experiment: Experiment) -> None:
    """Checks that the judge reads what the prompt asks for: otherwise no answer would be right."""
    ours, asked = experiment.grading.judge, experiment.task.judge
    reads = JUDGES[ours].extractor
    # None: a user's own judge, which may read any format
    if ours == asked or reads in (JUDGES[asked].extractor, "flexible", None):
        return
    template = OmegaConf.select(experiment.tree, "data.template")
    raise ConfigError(
        f"task.judge={ours}: {'the prompt' if template is None else f'data.template={template}'} "
        "asks for an answer that it does not read; "
        f"use task.judge={asked}, or another template"
    )


def _sync(experiment: Experiment) -> None:
    """Checks that the policy reaches the rollout in the way that was chosen."""
    rollout, sync, method = experiment.rollout, experiment.sync, experiment.method
    if sync.mode not in method.sync_modes:
        raise ConfigError(
            f"sync.mode={sync.mode}: only a TinyLoRA adapter has so few numbers; use sync=merged "
            "with adapter=lora and adapter=full"
        )
    if rollout.load_format == "dummy" and sync.sleep_level == 1:
        raise ConfigError(
            "actor_rollout_ref.rollout.load_format=dummy: a sync brings only what training "
            "changed; use auto, or sync=merged sync.sleep_level=2"
        )
    if rollout.quantization is not None and method.has_vector:
        raise ConfigError(
            f"actor_rollout_ref.rollout.quantization={rollout.quantization}: what quantised "
            "weights hold cannot be proved; use null"
        )
    if sync.rounding != "nearest" and not method.sync_rounds:
        raise ConfigError(
            f"sync.rounding={sync.rounding}: verl merges and rounds the weights of "
            "adapter=lora and adapter=full itself; use nearest"
        )


def _placement(experiment: Experiment) -> None:
    """Checks that a rollout with devices of its own gets policies that can travel."""
    hardware, batch = experiment.hardware, experiment.batch
    if not hardware.is_separate:
        return
    if hardware.shares_engine:
        raise ConfigError(
            "actor_rollout_ref.hybrid_engine=true: with placement=separate the rollout has GPUs of "
            "its own; leave it false"
        )
    backend, mode = experiment.rollout.checkpoint_backend, experiment.sync.mode
    if backend == "naive" or (backend == "tinylora" and mode == "merged"):
        raise ConfigError(
            f"sync.mode={mode}: whole weights do not travel by checkpoint_engine.backend={backend} "
            "to a rollout elsewhere; use sync=vector, sync=factors, or backend=nccl"
        )
    if batch.prompts != hardware.sync_every * batch.mini_batch:
        raise ConfigError(
            f"trainer.v1.separate_async.parameter_sync_step={hardware.sync_every}: {batch.prompts} "
            f"prompts a step are not {hardware.sync_every} mini-batches of {batch.mini_batch}"
        )


def _ranks(experiment: Experiment) -> None:
    if experiment.hardware.kind == "cpu" and experiment.actor.strategy == "fsdp":
        raise ConfigError(
            "actor_rollout_ref.actor.strategy=fsdp: torch's FSDP1 needs CUDA; use fsdp2"
        )
    ranks, size = experiment.hardware.num_ranks, experiment.rollout.tensor_parallel_size
    if ranks % size:
        raise ConfigError(
            f"actor_rollout_ref.rollout.tensor_model_parallel_size={size}: does not divide the "
            f"{ranks} ranks"
        )
    batch = experiment.batch
    samples = batch.prompts * batch.samples
    if samples % ranks:
        raise ConfigError(
            f"task.prompts_per_step={batch.prompts}: {samples} samples a step are no multiple of "
            f"{ranks} ranks; change task.prompts_per_step or trainer.n_gpus_per_node"
        )


def _checkpoints(experiment: Experiment) -> None:
    """Checks that every step of an adapter is kept, by verl's own writer of complete files."""
    every = experiment.checkpoints.every
    if not experiment.is_rl:
        return
    if experiment.method.has_vector and every != 1:
        raise ConfigError(
            f"trainer.save_freq={every}: a killed run would lose more than the step in progress, "
            "and a checkpoint is a few kilobytes; use 1"
        )
    if experiment.checkpoints.async_save:
        raise ConfigError(
            "actor_rollout_ref.actor.checkpoint.async_save=true: a checkpoint's manifest is "
            "written when its files are; use false"
        )


def _supervised(experiment: Experiment) -> None:
    """Checks that a supervised run fits one node, and has something to measure."""
    sft, hardware = experiment.supervised, experiment.hardware
    if sft is None:
        return
    if hardware.nodes != 1:
        raise ConfigError(
            f"trainer.nnodes={hardware.nodes}: a supervised run takes one node; use 1 and "
            "trainer.n_gpus_per_node"
        )
    if sft.batch % hardware.per_node:
        raise ConfigError(
            f"sft.batch_size={sft.batch}: no multiple of trainer.n_gpus_per_node="
            f"{hardware.per_node}; change one of them"
        )
    if sft.evaluate and not experiment.validation.draws:
        raise ConfigError(
            "task.eval_samples=0: nothing to evaluate; set task.eval_greedy=true, "
            "task.eval_samples=1 or sft.evaluate=false"
        )


CHECKS: tuple[Check, ...] = (_method, _judge, _sync, _placement, _ranks, _checkpoints, _supervised)
"""In the order in which a run makes them."""


class UnreadError(Exception):
    """A check asked for a part of an experiment that could not be read."""


def check(experiment: Experiment) -> list[ConfigError]:
    """Makes every check across the parts of an experiment, and returns what failed.

    A check that compares a part which is wrong by itself is left out.
    """
    errors = []
    for each in CHECKS:
        with suppress(UnreadError):
            try:
                with unresolved_as_config_error():
                    each(experiment)
            except ConfigError as error:
                errors.append(error)
    return errors


SECTIONS: tuple[type[Section], ...] = (
    *(verl_sections.Actor, verl_sections.Hardware, verl_sections.Optim),
    *(sections.Batch, sections.Checkpoints, sections.Grading, sections.Run),
    *(sections.Supervised, sections.Tracking, sections.Validation),
)
NODES = (
    *("adapter", "base_model.", "data", "method", "model", "plugins", "sync.rounding"),
    *("cost.", "device", "dry_run", "grading.", "hydra", "recipe", "run.", "seed", "sft.", "sweep"),
    *("actor_rollout_ref.actor.checkpoint.", "actor_rollout_ref.actor.fsdp_config."),
    *("actor_rollout_ref.actor.optim.", "actor_rollout_ref.model."),
    *("task.recipe", "task.prompts_per_step"),
    *("task.max_prompt_tokens", "task.max_response_tokens"),
)
"""Beginnings of keys and groups that a supervised run reads as a whole."""

INSTEAD = {
    "trainer.total_training_steps": "use sft.steps or sft.epochs",
    "trainer.total_epochs": "use sft.steps or sft.epochs",
    "trainer.save_freq": "use sft.save_freq or sft.max_checkpoints",
    "trainer.max_actor_ckpt_to_keep": "use sft.save_freq or sft.max_checkpoints",
}


def check_overrides(overrides: Iterable[str]) -> None:
    """Raises ConfigError for an override on `sft`'s command line that has no effect there.

    A recipe may set other keys, for `train`.
    """
    read = {
        field.metadata["key"].path
        for section in SECTIONS
        for field in dataclasses.fields(section)
        if "key" in field.metadata and not field.metadata["key"].rl
    }
    for override in overrides:
        [key] = current_keys([override.lstrip("+~").partition("=")[0].partition("@")[0]])
        if key not in read and (not key.startswith(NODES) or key in INSTEAD):
            fix = INSTEAD.get(key, "leave it out")
            raise ConfigError(f"{key}: a supervised run does not read it; {fix}")
