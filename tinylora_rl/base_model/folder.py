"""The base model of a verb: a folder, or a hub id made into one; looked at before it is used."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.base_model.snapshot import checkpoint_folder, revision_of
from tinylora_rl.errors import ConfigError, MachineError

HOLD_S = 3600.0  # in which a node has downloaded a base model


def local_base_model(path: str, *, revision: str | None = None) -> tuple[Path, Any]:
    """The folder of the model's files, downloaded where `path` is a hub id, and its tokenizer.

    Raises:
        ConfigError: with key, value and mend.
    """
    folder = base_model_folder(path, revision=revision)
    return folder, checked_tokenizer(path, folder)


def base_model_folder(path: str, *, revision: str | None = None) -> Path:
    """The folder of the model's files, downloaded where `path` is a hub id. It brings no code.

    Args:
        revision: a commit of the hub repository; None takes the newest.

    Raises:
        ConfigError: with key, value and mend.
    """
    try:
        folder = _folder(path, revision)
    except ValueError as error:
        raise ConfigError(f"base_model.path={error}") from error
    refuse_code_of_its_own(path, folder)
    return folder


def pin_base_model(config: DictConfig) -> str:
    """Every process of the run will read one folder: `actor_rollout_ref.model.path` is it now.

    verl, vLLM and the bank each resolve a hub id by themselves, and know no revision. A snapshot's
    folder is named by its commit, which the adapter states. `base_model.path` stays what people
    know the model by. A cluster's other nodes need the folder too: see `hold_on_every_node`.

    Returns:
        The model and the commit, for people.

    Raises:
        ConfigError: with key, value and mend.
    """
    path = str(config.actor_rollout_ref.model.path)
    folder = base_model_folder(path, revision=OmegaConf.select(config, "base_model.revision"))
    config.actor_rollout_ref.model.path = str(folder)
    commit = revision_of(folder)
    return path if commit is None else f"{path} at {commit}"


def hold_on_every_node(config: DictConfig) -> None:
    """Each node of the connected Ray cluster has the pinned snapshot, under the same path.

    A node without it downloads it. A folder that is no snapshot must be there already. Nodes
    without a GPU are left out where the run needs some.

    Raises:
        ConfigError: a node cannot have it, or keeps its hub cache elsewhere.
        MachineError: a node cannot run this package, or has not answered within `HOLD_S`.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    folder = Path(config.actor_rollout_ref.model.path)
    commit = revision_of(folder)
    source = str(folder) if commit is None else str(config.base_model.path)
    fetch = ray.remote(num_cpus=0)(_folder_here)
    wants_gpu = config.trainer.device == "cuda"
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
        answers = ray.get(asked, timeout=HOLD_S)
    except ray.exceptions.RayError as error:
        raise MachineError(
            f"base_model.path={config.base_model.path}: not every node of the cluster could get it "
            f"({type(error).__name__}: {first_line(error)}); install this package on each, and "
            "look at its way to the hub"
        ) from error
    for node, answer in zip(nodes, answers, strict=True):
        if answer != str(folder):
            raise ConfigError(
                f"base_model.path={config.base_model.path}: node {node['NodeManagerAddress']}: "
                f"{answer}, not {folder}; put HF_HOME or the model's folder on a file system that "
                "all nodes share"
            )


def _folder_here(source: str, revision: str | None) -> str:
    """The folder on the node that runs this, or why there is none."""
    try:
        return str(_folder(source, revision))
    except ValueError as error:
        return str(error)


def _folder(path: str, revision: str | None) -> Path:
    """`checkpoint_folder`, and a commit that lies in the hub's cache where the hub is out of reach.

    Why: huggingface_hub 1.33 asks the hub for a commit's list of files unless it made the cached
    copy itself, so that a copy from another machine, or of an older version, is not found.
    """
    try:
        return checkpoint_folder(path, revision=revision).resolve()
    except ValueError:
        if revision is None or path.startswith(("/", ".", "~")):
            raise
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        with suppress(LocalEntryNotFoundError):
            return Path(snapshot_download(path, revision=revision, local_files_only=True)).resolve()
        raise


def refuse_code_of_its_own(path: str, folder: Path) -> None:
    """No file of the model names Python code to run.

    Why not leave it to `trust_remote_code`: verl 0.9.1 opens the actor's tokenizer with
    trust_remote_code=True in its reward workers (RewardLoopWorker._init_reward_fn), whatever the
    configuration says, and such a name may point to any repository of the hub. Remove when
    `test_verl_trusts_code_in_its_reward_workers` fails.

    Raises:
        ConfigError: with the file and the mend.
    """
    for file in sorted(folder.glob("*config.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"base_model.path={path}: {file.name} is not JSON ({first_line(error)})"
            ) from error
        if isinstance(content, dict) and content.get("auto_map"):
            raise ConfigError(
                f"base_model.path={path}: {file.name} names code of its own (auto_map), which is "
                "never run; where transformers knows the architecture itself, remove auto_map from "
                "a copy"
            )


def checked_tokenizer(path: str, folder: Path | str) -> Any:
    """The tokenizer of a chat model.

    Raises:
        ConfigError: there is none, or it has no chat template.
    """
    from transformers import AutoTokenizer

    if Path(folder).is_dir() and not any(Path(folder).glob("tokenizer*")):
        raise ConfigError(
            f"base_model.path={path}: no tokenizer files; copy tokenizer.json and its config there"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"base_model.path={path}: no usable tokenizer ({first_line(error)})"
        ) from error
    if tokenizer.chat_template is None:
        raise ConfigError(
            f"base_model.path={path}: the tokenizer has no chat template; use an Instruct model"
        )
    return tokenizer


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
