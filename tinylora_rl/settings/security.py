"""Whom a run would trust, looked at before it starts. To import it takes neither torch nor Ray.

SECURITY.md says what the boundaries are; here they are held, or a line says where they are open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.secret_scan import leaves, refuse_secrets
from tinylora_rl.training.ray_token import cluster_address, readable_by_others, token_file

COMMIT = re.compile(r"[0-9a-f]{40}")


def check_trust(config: DictConfig) -> list[str]:
    """Nothing in `config` opens a boundary that we hold.

    Returns:
        A line for each boundary that is open all the same, with its mend.

    Raises:
        ConfigError: remote code, a secret, a revision that is no commit, or a Ray dashboard for
            everyone; key and mend.
    """
    refuse_secrets(config)
    _refuse_remote_code(config)
    verb = config.get("verb")
    return [
        *_base_model(config),
        *(_resume(config) if verb in ("train", "sft") else []),
        *(_ray(config) if verb == "train" else []),
    ]


def refuse_pickled_code(checkpoint: Path) -> None:
    """Loading the position in the data (`data.pt`, `data_RANK.pt`) of `checkpoint` runs nothing.

    verl 0.9.1 loads it with weights_only=False (trainer_base._load_checkpoint, CheckpointHandler).
    What torch loads with weights_only=True, numbers, texts, lists and dictionaries, is the same
    either way.

    Raises:
        ConfigError: it holds something else, or is damaged.
    """
    import torch

    for file in sorted(checkpoint.glob("data*.pt")):
        try:
            torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a file made by a stranger makes torch raise
            raise ConfigError(
                f"{file}: is damaged, or holds more than numbers ({type(error).__name__}), and "
                "loading it could run anything; resume from another checkpoint"
            ) from error


def _refuse_remote_code(config: DictConfig) -> None:
    """`trust_remote_code` is false wherever it may stand: verl's nodes, vLLM's options, ours.

    There is no key that allows it: the other half of this package opens base models without, so an
    adapter trained on such a model could be neither evaluated, merged nor served.
    """
    for key, value in leaves(OmegaConf.to_container(config, resolve=False)):
        name = key.rpartition(".")[2].replace("-", "_")
        if name == "trust_remote_code" and value not in (None, False):
            raise ConfigError(
                f"{key}={value}: code from a model's repository is never run; use a model whose "
                "architecture transformers has itself, and leave it false"
            )


def _base_model(config: DictConfig) -> Iterator[str]:
    path = str(OmegaConf.select(config, "base_model.path"))
    revision = OmegaConf.select(config, "base_model.revision")
    is_folder = Path(path).expanduser().is_dir() or path.startswith(("/", ".", "~"))
    if revision is None:
        if not is_folder:
            yield (
                f"base_model.revision=null: {path} is taken as the hub has it today; name a commit "
                "(the one in use is printed, and stored with the adapter)"
            )
    elif is_folder:
        raise ConfigError(
            f"base_model.revision={revision}: base_model.path={path} is a folder, which has none; "
            "use null"
        )
    elif not COMMIT.fullmatch(str(revision)):
        raise ConfigError(
            f"base_model.revision={revision}: branches and tags move; use the 40 hexadecimal "
            "digits of a commit, or null"
        )


def _loads_pickle(config: DictConfig) -> bool:
    """verl's own checkpoints of models and optimisers are pickled, and so are TransferQueue's."""
    from tinylora_rl.verl_plugin.settings import MODEL_TYPE, SEPARATE_TRAINER_MODE  # has torch

    return (
        config.actor_rollout_ref.model.model_type != MODEL_TYPE
        or config.trainer.v1.trainer_mode == SEPARATE_TRAINER_MODE
    )


def _resume(config: DictConfig) -> Iterator[str]:
    source = config.trainer.get("resume", "auto")
    if source not in ("auto", "never") and _loads_pickle(config):
        yield (
            f"trainer.resume={source}: such a checkpoint is pickled, and loading it can run "
            "anything; go on only from what you wrote yourself"
        )


def _ray(config: DictConfig) -> Iterator[str]:
    options = config.ray_kwargs.ray_init
    host = options.get("dashboard_host") or "127.0.0.1"
    if host not in ("127.0.0.1", "localhost", "::1"):
        raise ConfigError(
            f"ray_kwargs.ray_init.dashboard_host={host}: whoever reaches a dashboard can submit "
            "jobs to it; leave it at 127.0.0.1 and forward the port (ssh -L 8265:127.0.0.1:8265)"
        )
    address, mode = cluster_address(config), os.environ.get("RAY_AUTH_MODE")
    if address is None and mode not in (None, "token"):
        yield (
            f"RAY_AUTH_MODE={mode}: every user of this machine can run code in this run; unset it"
        )
    elif address is not None and mode != "token":
        yield (
            f"RAY_ADDRESS={address}: RAY_AUTH_MODE is not token: whoever reaches the cluster can "
            "run code on it; start it with scripts/cluster/ray.sh, and export RAY_AUTH_MODE=token"
        )
    token = token_file()
    if token is not None and mode in (None, "token") and readable_by_others(token):
        yield f"{token}: other users can read this token of Ray; run: chmod 600 {token}"
