"""Who can reach the Ray of a run. A Ray of its own is for this machine and this user alone.

Ray 2.60 by itself listens on every interface, with a token that it writes readable for all users.
"""

from __future__ import annotations

import os
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.errors import MachineError

CLUSTERS_ALLOWED = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's switch for machines that are no part of a cluster: with 0 its node is called 127.0.0.1.

Then it listens there alone, as do the servers of verl and TransferQueue, which ask Ray for their
address (ray/_private/services.py: get_node_ip_address). `_node_ip_address=127.0.0.1` does not do:
Ray replaces it by an address that others reach.
"""


def cluster_address(config: DictConfig) -> str | None:
    """The running Ray cluster that a training would join; None where it starts its own."""
    address = OmegaConf.select(config, "ray_kwargs.ray_init.address")
    if address == "local":
        return None
    return address or os.environ.get("RAY_ADDRESS") or None


def close_own_ray(config: DictConfig) -> None:
    """A Ray that this run starts will listen on 127.0.0.1 alone and want a token that is private.

    Call before anything imports Ray, which reads its environment then. A cluster is left as it is.

    Raises:
        MachineError: Ray is imported already, or the token's folder cannot be written.
    """
    if cluster_address(config) is not None:
        return
    os.environ.setdefault(CLUSTERS_ALLOWED, "0")
    constants = sys.modules.get("ray._private.ray_constants")
    if constants is not None and constants.ENABLE_RAY_CLUSTER and not _wants_cluster():
        raise MachineError(
            "ray: was imported before it could be told to listen on 127.0.0.1 alone; start the run "
            "in a process of its own"
        )
    if os.environ.get("RAY_AUTH_MODE") in (None, "token"):
        _make_token()


def token_file() -> Path | None:
    """The file that Ray takes its token from; None where the environment holds the token itself."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return None
    stated = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(stated) if stated else Path.home() / ".ray" / "auth_token"


def readable_by_others(path: Path) -> bool:
    """Whether another user gets to the file and can read it."""
    if not path.is_file():
        return False
    for reads, enters in ((stat.S_IROTH, stat.S_IXOTH), (stat.S_IRGRP, stat.S_IXGRP)):
        folders = path.resolve().parents
        if path.stat().st_mode & reads and all(
            folder.stat().st_mode & enters for folder in folders
        ):
            return True
    return False


def _wants_cluster() -> bool:
    return os.environ[CLUSTERS_ALLOWED].lower() in ("1", "true")


def _make_token() -> None:
    """Ray's default token exists. Ray would make it, too, with the permissions of any file."""
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
