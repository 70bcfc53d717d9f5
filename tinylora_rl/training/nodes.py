"""The base model on every node of a cluster: one snapshot, under one path."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.base_model import BaseModel, checkpoint_folder
from tinylora_rl.errors import ConfigError, MachineError, first_line

DOWNLOAD_S = 3600.0  # in which a node has downloaded a base model


def pin_base_model(config: DictConfig) -> str:
    """Makes every process of the run read one folder: `actor_rollout_ref.model.path` is it now.

    `base_model.path` stays the name that people know the model by. The other nodes of a cluster
    need the folder, too: see `require_on_every_node`.

    Returns:
        The model and the commit, for people.

    Raises:
        ConfigError: with key, value and fix.
    """
    base = BaseModel(
        str(config.actor_rollout_ref.model.path), OmegaConf.select(config, "base_model.revision")
    )
    config.actor_rollout_ref.model.path = str(base.folder)
    return str(base)


def require_on_every_node(
    folder: Path, commit: str | None, hub_id: str, *, wants_gpu: bool
) -> None:
    """Checks that each node of the connected Ray cluster has `folder`, under the same path.

    A node without it downloads it. A folder that is no snapshot must be there already.

    Args:
        folder, commit: of the base model on this node; see `BaseModel`.
        wants_gpu: leaves out nodes without a GPU.

    Raises:
        ConfigError: a node cannot have it, or keeps its hub cache elsewhere.
        MachineError: a node cannot run this package, or has not answered within `DOWNLOAD_S`.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    source = str(folder) if commit is None else hub_id
    fetch = ray.remote(num_cpus=0)(_folder_here)
    nodes = [
        node
        for node in ray.nodes()
        if node["Alive"] and (not wants_gpu or node["Resources"].get("GPU"))
    ]
    asked = [
        fetch.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(source, commit)
        for node in nodes
    ]
    try:
        answers = ray.get(asked, timeout=DOWNLOAD_S)
    except ray.exceptions.RayError as error:
        raise MachineError(
            f"base_model.path={hub_id}: not every node of the cluster could get it "
            f"({type(error).__name__}: {first_line(error)}); install this package on each, and "
            "look at its way to the hub"
        ) from error
    for node, answer in zip(nodes, answers, strict=True):
        if answer != str(folder):
            raise ConfigError(
                f"base_model.path={hub_id}: node {node['NodeManagerAddress']}: {answer}, not "
                f"{folder}; put HF_HOME or the model's folder on a file system that all nodes share"
            )


def _folder_here(source: str, revision: str | None) -> str:
    """Returns the folder on the node that runs this, or the reason why there is none."""
    try:
        return str(checkpoint_folder(source, revision=revision))
    except ValueError as error:
        return str(error)
