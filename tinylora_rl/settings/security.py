"""Checks whom a run would trust, before it starts.

SECURITY.md states the boundaries; here they are enforced, or a line says where they are open.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.evaluation import Evaluation
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.settings.secret_scan import leaves, refuse_secrets

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
    """verl's own checkpoints of models and optimisers are pickled; so are TransferQueue's."""
    source = experiment.run.resume
    loads_pickle = not experiment.method.has_vector or experiment.hardware.is_separate
    if source not in ("auto", "never") and loads_pickle:
        yield (
            f"trainer.resume={source}: such a checkpoint is pickled, and loading it can run "
            "anything; go on only from what you wrote yourself"
        )
