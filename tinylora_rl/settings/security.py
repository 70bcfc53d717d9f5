"""Checks whom a run would trust, before it starts.

SECURITY.md states the boundaries; here they are enforced, or a line says where they are open.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.evaluation import Evaluation
from tinylora_rl.settings.experiment import Experiment

COMMIT = re.compile(r"[0-9a-f]{40}")


def check_trust(settings: Experiment | Evaluation) -> list[str]:
    """Checks that nothing in a configuration opens a boundary that SECURITY.md promises.

    Returns:
        A line for each boundary that is open all the same, with its fix.

    Raises:
        ConfigError: remote code, a secret, or a revision that is no commit; key and fix.
    """
    plain: Any = OmegaConf.to_container(settings.tree, resolve=False)
    refuse_secrets(plain)
    _refuse_remote_code(plain)
    resume = _resume(settings) if isinstance(settings, Experiment) else ()
    return [*_base_model(settings.base), *resume]


def _refuse_remote_code(plain: Mapping[str, Any]) -> None:
    """Refuses `trust_remote_code` wherever it may stand: verl's nodes, vLLM's options, ours.

    There is no key that allows it: the other half of this package opens base models without, so an
    adapter trained on such a model could be neither evaluated, merged nor served.
    """
    for key, value in leaves(plain):
        name = key.rpartition(".")[2].replace("-", "_")
        if name == "trust_remote_code" and value not in (None, False):
            raise ConfigError(
                f"{key}={value}: code from a model's repository is never run; use a model whose "
                "architecture transformers has itself, and leave it false"
            )


def _base_model(base: BaseModel) -> Iterator[str]:
    is_folder = Path(base.id).expanduser().is_dir() or base.id.startswith(("/", ".", "~"))
    if base.revision is None:
        if not is_folder:
            yield (
                f"base_model.revision=null: {base.id} is taken as the hub has it today; name a "
                "commit (the one in use is printed, and stored with the adapter)"
            )
    elif is_folder:
        raise ConfigError(
            f"base_model.revision={base.revision}: base_model.path={base.id} is a folder, which "
            "has none; use null"
        )
    elif not COMMIT.fullmatch(base.revision):
        raise ConfigError(
            f"base_model.revision={base.revision}: branches and tags move; use the 40 hexadecimal "
            "digits of a commit, or null"
        )


def _resume(experiment: Experiment) -> Iterator[str]:
    """Warns of verl's own checkpoints of models and optimisers, and TransferQueue's: pickles."""
    source = experiment.run.resume
    loads_pickle = not experiment.method.has_vector or experiment.hardware.is_separate
    if source not in ("auto", "never") and loads_pickle:
        yield (
            f"trainer.resume={source}: such a checkpoint is pickled, and loading it can run "
            "anything; go on only from what you wrote yourself"
        )


SECRET_NAME = re.compile(
    r"(?i)(^|[_-])(api[_-]?key|secret([_-](access[_-])?key)?|token|password|passwd|credentials?)$"
)
"""Names of keys and of environment variables whose value is nobody's business."""
VOCABULARY = re.compile(
    r"(?i)(eos|bos|eot|eom|sep|cls|pad|unk|mask|stop|tool|image|video|audio)_token$"
)

SECRET_SHAPES = (
    r"\bhf_[A-Za-z0-9]{30,}",  # Hugging Face
    r"\bwandb_v\d+_[A-Za-z0-9_]{20,}",
    r"\bsk-([a-z]{2,4}-)?[A-Za-z0-9_]{20,}",  # OpenAI and its likes
    r"\b(gh[pousr]_|github_pat_|glpat-)[A-Za-z0-9_-]{16,}",
    r"\bAKIA[0-9A-Z]{16}\b",
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    r"://[^/\s:@]+:[^/\s@]+@",  # a password in an address
)
SECRET_SHAPE = re.compile("|".join(SECRET_SHAPES))
FROM_ENVIRONMENT = re.compile(r"\$\{oc\.env:\s*([A-Za-z_][A-Za-z0-9_]*)")
LEAST_LENGTH = 12  # a shorter value of a variable called TOKEN is found by chance


def refuse_secrets(config: Any) -> None:
    """Refuses a configuration that holds a secret, or would once its interpolations are resolved.

    Found are keys that are named like a secret and hold a text, texts of a known shape, and what
    this process's environment holds under a name like a secret's. A W&B key is 40 hexadecimal
    digits as a commit is: it is found by its name and in the environment.

    Args:
        config: plain values, interpolations unresolved.

    Raises:
        ConfigError: with the key and the fix, and without the value.
    """
    known = environment_secrets()
    for key, value in leaves(config):
        reason = _why_secret(key, value, known) if isinstance(value, str) else None
        if reason:
            raise ConfigError(
                f"{key}: {reason} (not shown); configurations are written to disk: leave the key "
                "out, and set the variable in the environment that the run starts in"
            )


def environment_secrets() -> dict[str, str]:
    """Returns {name: value} of the environment's variables that are named like secrets."""
    return {
        name: value
        for name, value in os.environ.items()
        if SECRET_NAME.search(name) and len(value) >= LEAST_LENGTH
    }


def _why_secret(key: str, text: str, known: dict[str, str]) -> str | None:
    for name in FROM_ENVIRONMENT.findall(text):
        if SECRET_NAME.search(name) or SECRET_SHAPE.search(os.environ.get(name, "")):
            return f"copies {name} out of the environment"
    for name, value in known.items():
        if value in text:
            return f"holds the value of {name}"
    if SECRET_SHAPE.search(text):
        return "looks like a secret"
    is_named = SECRET_NAME.search(key.rpartition(".")[2]) and not VOCABULARY.search(key)
    return "is named like a secret and has a value" if is_named and text else None


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (key, value) of nested dictionaries and lists; entries of a list have its key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    else:
        yield key, value
