"""Sets up Ray for a run: who can reach it, workers that are forks, the base model on its nodes.

A Ray of its own is for this machine and user alone. Ray 2.60 by itself listens on every interface,
with a token that it writes readable for all users.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from tinylora_rl.base_model import checkpoint_folder
from tinylora_rl.errors import ConfigError, MachineError, first_line
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.settings.verl_sections import RayStart

CLUSTERS_ALLOWED = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for machines that are no part of a cluster: with 0 its node is called 127.0.0.1.

Then it listens there alone, as do the servers of verl and TransferQueue, which ask Ray for their
address (ray/_private/services.py: get_node_ip_address). `_node_ip_address=127.0.0.1` does not do:
Ray replaces it by an address that others reach.
"""


def cluster_address(ray: RayStart) -> str | None:
    """Returns the running Ray cluster that a training joins; None where it starts its own."""
    if ray.address == "local":
        return None
    return ray.address or os.environ.get("RAY_ADDRESS") or None


def check_ray(ray: RayStart) -> list[str]:
    """Checks who can reach the Ray of a run; returns a line with its fix for each way that is open.

    Raises:
        ConfigError: its dashboard would be for everyone.
    """
    host = ray.dashboard_host or "127.0.0.1"
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise ConfigError(
            f"ray_kwargs.ray_init.dashboard_host={host}: whoever reaches a dashboard can submit "
            "jobs to it; leave it at 127.0.0.1 and forward the port (ssh -L 8265:127.0.0.1:8265)"
        )
    lines = []
    address, mode = cluster_address(ray), os.environ.get("RAY_AUTH_MODE")
    if address is None and mode not in (None, "token"):
        lines.append(
            f"RAY_AUTH_MODE={mode}: every user of this machine can run code in this run; unset it"
        )
    elif address is not None and mode != "token":
        lines.append(
            f"RAY_ADDRESS={address}: RAY_AUTH_MODE is not token: whoever reaches the cluster can "
            "run code on it; start it with scripts/cluster/ray.sh, and export RAY_AUTH_MODE=token"
        )
    token = token_file()
    if token is not None and mode in (None, "token") and readable_by_others(token):
        lines.append(f"{token}: other users can read this token of Ray; run: chmod 600 {token}")
    return lines


def close_own_ray(ray: RayStart) -> None:
    """Makes a Ray that this run starts listen on 127.0.0.1 alone and want a private token.

    Call before anything imports Ray, which reads its environment then. A cluster is left as it is.

    Raises:
        MachineError: Ray is imported already, or the token's folder cannot be written.
    """
    if cluster_address(ray) is not None:
        return
    os.environ.setdefault(CLUSTERS_ALLOWED, "0")
    wants_cluster = os.environ[CLUSTERS_ALLOWED].lower() in ("1", "true")
    constants = sys.modules.get("ray._private.ray_constants")
    if constants is not None and constants.ENABLE_RAY_CLUSTER and not wants_cluster:
        raise MachineError(
            "ray: was imported before it could be set to listen on 127.0.0.1 alone; start the run "
            "in a process of its own"
        )
    if os.environ.get("RAY_AUTH_MODE") in (None, "token"):
        _make_token()


def token_file() -> Path | None:
    """Returns the file of Ray's token; None where the environment holds the token itself."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    stated = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(stated) if stated else Path.home() / ".ray" / "auth_token"


def readable_by_others(path: Path) -> bool:
    if not path.is_file():
        return False
    for reads, enters in ((stat.S_IROTH, stat.S_IXOTH), (stat.S_IRGRP, stat.S_IXGRP)):
        folders = path.resolve().parents
        if path.stat().st_mode & reads and all(
            folder.stat().st_mode & enters for folder in folders
        ):
            return True
    return False


def _make_token() -> None:
    """Makes Ray's default token. Ray would, too, with the permissions of any file."""
    path = token_file()
    if path is None or path.exists() or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):  # another run was faster: its token is the one
            os.link(fresh, path)  # unlike a rename, never takes another's place
        fresh.unlink()
    except OSError as error:
        raise MachineError(
            f"{path}: Ray's token cannot be written ({error.strerror}); set RAY_AUTH_TOKEN_PATH to "
            "a file with one"
        ) from error


DOWNLOAD_S = 3600.0  # in which a node has downloaded a base model


def require_on_every_node(
    folder: Path, commit: str | None, hub_id: str, *, wants_gpu: bool
) -> None:
    """Checks that each node of the connected Ray cluster has the base model's `folder`.

    A node without it downloads it. A folder that is no snapshot (no `commit`) must be there.

    Args:
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


def forked_workers(experiment: Experiment) -> AbstractContextManager[str | None]:
    """Starts the fork server of a run that has one (`run.fork_workers`).

    Returns:
        A context that yields the command by which Ray starts its workers; None: by Python itself.

    Raises:
        ConfigError: the workers would be on other machines, too.
    """
    if not experiment.run.fork_workers:
        return nullcontext()
    if experiment.ray.address != "local":
        raise ConfigError(
            f"run.fork_workers=true with ray_kwargs.ray_init.address={experiment.ray.address}: "
            "only a Ray that this run starts here can fork its workers; give run.fork_workers=false"
        )
    from tinylora_rl.verl_plugin.cpu.fork_server import fork_server

    return fork_server({key: str(value) for key, value in experiment.ray.env_vars.items()})
