"""The base model on every node of a cluster: one snapshot, under one path."""

from __future__ import annotations

from pathlib import Path

from tinylora_rl.base_model import checkpoint_folder
from tinylora_rl.errors import ConfigError, MachineError, first_line

DOWNLOAD_S = 3600.0  # in which a node has downloaded a base model


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
