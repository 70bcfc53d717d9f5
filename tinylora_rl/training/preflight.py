"""Checks, before a worker starts, that machine, verl and base model can do the run."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from omegaconf import DictConfig

from tinylora_rl.errors import ConfigError, MachineError, first_line
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.training.ray_setup import cluster_address

SLOTS_PER_RANK = 3  # verl reserves this many Ray CPUs with every logical GPU (max_colocate_count)
SLOTS_PER_ROLLOUT_RANK = 2  # with every one of a standalone rollout (init_standalone)
SLOTS_BESIDE = 2  # TransferQueue's controller, and one to schedule an actor on
MIN_SHM_BYTES = 64 << 20
PLUGIN = "tinylora_rl.verl_plugin.entry_point"


def check_slots(experiment: Experiment) -> None:
    """Checks that Ray has the CPU slots that verl waits for; with too few it waits forever.

    Raises:
        ConfigError, MachineError: too few are stated, or there are as few cores; with the number.
    """
    hardware, ray = experiment.hardware, experiment.ray
    if cluster_address(ray) is not None:
        return  # its slots are other machines'
    if hardware.nodes > 1:
        raise ConfigError(
            f"trainer.nnodes={hardware.nodes}: no Ray cluster is named; start one with "
            "scripts/cluster, and set RAY_ADDRESS"
        )
    needed = (
        SLOTS_PER_RANK * hardware.num_ranks
        + SLOTS_PER_ROLLOUT_RANK * hardware.rollout_per_node
        + ray.storage_units
        + SLOTS_BESIDE
    )
    slots = ray.num_cpus
    available = os.cpu_count() or 1 if slots is None else slots
    if available < needed:
        error = MachineError if slots is None else ConfigError
        raise error(
            f"ray_kwargs.ray_init.num_cpus={slots}: {available} CPU slots, verl needs {needed} "
            f"here and would wait for ever; set ray_kwargs.ray_init.num_cpus={needed} or more "
            "(slots, not cores)"
        )


def check_machine(experiment: Experiment) -> None:
    """Checks that the device chosen is the machine's, and that verl sees this package."""
    for check in DEVICE_CHECKS.values():
        check(experiment)
    check_plugin(experiment)


def check_cluster(experiment: Experiment) -> None:
    """Checks that a CPU run has a Ray of its own."""
    if experiment.hardware.kind == "cpu" and os.environ.get("RAY_ADDRESS"):
        raise MachineError("RAY_ADDRESS: device=cpu starts its own Ray; unset RAY_ADDRESS")


def num_gpus() -> int:
    """Counts the GPUs that torch sees here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def check_gpus(experiment: Experiment) -> None:
    """Checks that there are as many GPUs as the run takes."""
    if experiment.hardware.kind != "cuda":
        return
    count, wanted = num_gpus(), experiment.hardware.per_node
    if count == 0:
        raise MachineError(
            "device=cuda: no GPU is visible here; use device=cpu, or start from a GPU node "
            "with the gpu extra installed"
        )
    if count < wanted and (not experiment.is_rl or not os.environ.get("RAY_ADDRESS")):
        raise MachineError(
            f"trainer.n_gpus_per_node={wanted}: {count} GPUs are visible; set "
            f"trainer.n_gpus_per_node={count}"
        )


def check_attention(experiment: Experiment) -> None:
    """Checks that the attention that verl's packed sequences need is installed."""
    if experiment.hardware.kind != "cuda":
        return
    if (
        experiment.actor.attention in (None, "flash_attention_2")
        and find_spec("flash_attn") is None
    ):
        raise MachineError(
            "flash_attn: not installed, and verl's packed sequences need it; compile it as "
            "docker/Dockerfile.gpu does, or set model.use_remove_padding=false and "
            "+model.override_config.attn_implementation=sdpa under actor_rollout_ref"
        )


def check_shm(experiment: Experiment) -> None:
    """Checks that weights have room to travel in, where they travel through shared memory."""
    if experiment.hardware.kind != "cpu":
        return
    shm = Path("/dev/shm")
    free = os.statvfs(shm).f_bavail * os.statvfs(shm).f_frsize if shm.is_dir() else 0
    if free < MIN_SHM_BYTES:
        raise MachineError(
            f"/dev/shm: {free >> 20} MB free, weights need 64; give the container --shm-size=1g"
        )


def check_plugin(experiment: Experiment) -> None:
    """Checks that verl sees this package, and takes the device chosen. Imports verl."""
    try:
        from tinylora_rl.verl_plugin.registration import check_registration

        check_registration()
    except (ImportError, RuntimeError) as error:
        raise MachineError(f"verl plugin: {error}") from error
    from verl.utils.device import get_device_name

    device, seen = experiment.hardware.kind, get_device_name()
    if seen != device:
        raise MachineError(f"device={device}: verl sees {seen} here; use device={seen}")


def check_supervised(experiment: Experiment) -> None:
    """Checks that the machine can do a supervised run, and that verl will see this package.

    verl itself is left to the ranks: importing it takes as long as all the other checks.
    """
    if PLUGIN not in {entry_point.value for entry_point in entry_points(group="verl.plugins")}:
        raise MachineError(
            "verl plugin: verl does not see the tinylora_rl plugin; install the package "
            "(pip install -e .) first"
        )
    check_gpus(experiment)
    check_attention(experiment)
    count = num_gpus() if experiment.hardware.kind == "cpu" else 0
    if count and os.environ.get("VLLM_TARGET_DEVICE") != "cpu":
        raise MachineError(
            f"device=cpu: {count} GPUs are visible and verl would take them; use device=cuda"
        )
    if experiment.supervised is not None and experiment.supervised.evaluate:
        from tinylora_rl.evaluation.run import check_engine

        check_engine(experiment.engine)


DEVICE_CHECKS = {
    "cluster": check_cluster,
    "GPUs": check_gpus,
    "attention": check_attention,
    "shared memory": check_shm,
}
"""{subject: check} of the machine that needs no verl, in the order in which a run makes them."""


def check_verl(tree: DictConfig) -> None:
    """Runs verl's own checks of its tree, resolved; raises ConfigError with what verl says."""
    from hydra.errors import HydraException
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    try:
        validate_config(
            config=tree,
            use_reference_policy=need_reference_policy(tree),
            use_critic=need_critic(tree),
        )
    except (AssertionError, TypeError, ValueError, HydraException) as error:
        # Hydra wraps what verl's dataclasses raise
        reason = first_line(error.__cause__ or error)
        raise ConfigError(f"verl refuses the configuration: {reason}") from error


def check_model(experiment: Experiment) -> str:
    """Checks that the base model has a tokenizer, a supported architecture and every target.

    Builds the modules without weights. Returns the trained numbers, in one line.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    base, batch = experiment.base, experiment.batch
    folder = base.folder
    try:
        model_config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"base_model.path={base.id}: {first_line(error)}; give a folder or a hub id"
        ) from error
    assert base.tokenizer is not None  # checked where it is opened
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(model_config)
    limit = getattr(model_config, "max_position_embeddings", None)
    if limit is not None and batch.sample_tokens > limit:
        raise ConfigError(
            f"task.max_response_tokens={batch.max_response_tokens}: prompt and response of "
            f"{batch.sample_tokens} tokens exceed the model's {limit}; use at most "
            f"{limit - batch.max_prompt_tokens}"
        )
    return experiment.method.describe(model)
