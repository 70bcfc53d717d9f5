"""The interface of a method: what it trains, how that is counted, sent and saved; known methods."""

from __future__ import annotations

import abc
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tinylora_rl.atomic import replacing_directory
from tinylora_rl.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from tinylora_rl.base_model.dims import ModelDims

VERL_ENGINE = "language_model"
"""verl's own engine, under the name by which its `EngineRegistry` knows it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """The trained part of a run, counted from the base model's shape.

    Attributes:
        what: in words, for a plan.
        num_parameters: numbers that the optimiser moves.
        adapted_numbers: numbers of the weights that an update changes.
        factor_numbers: numbers of rank-r factors for those weights, where there are such.
        vector_bytes: bytes of v as it travels, fp32.
        bank_bytes: bytes of U, S, Vt and P in fp32.
        is_whole: every weight has a gradient and an optimiser state.
    """

    what: str
    num_parameters: int
    adapted_numbers: int
    factor_numbers: int = 0
    vector_bytes: int = 0
    bank_bytes: int = 0
    is_whole: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainedPolicy:
    """The form in which a supervised run leaves its policy; exactly one of three folders is given.

    Attributes:
        artifact: a TinyLoRA adapter, to merge as in training's rollout.
        lora: a PEFT LoRA folder, of rank `rank`.
        model: a whole Hugging Face model.
    """

    artifact: Path | None = None
    lora: Path | None = None
    rank: int = 1
    model: Path | None = None


class Method(abc.ABC):
    """One way of training a model.

    Attributes:
        name: the value of the configuration's key `method`.
        title: the name in tables for people.
        model_type: of the engine that trains it, in verl's `EngineRegistry`.
        verl_rank: the LoRA rank in verl's own configuration, 0 where verl builds no PEFT model.
        sync_modes: the values of `sync.mode` that carry its policy to a rollout.
        has_vector: its policy is a vector v over a frozen base: steps are logged in `v.jsonl`,
            checkpoints are an adapter of ours, small enough to keep every one, and hold no pickle.
        sync_rounds: `sync.rounding` applies; verl rounds the weights of other methods itself.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    model_type: ClassVar[str] = VERL_ENGINE
    sync_modes: ClassVar[tuple[str, ...]] = ("merged",)
    has_vector: ClassVar[bool] = False
    sync_rounds: ClassVar[bool] = False

    @classmethod
    @abc.abstractmethod
    def from_options(cls, options: Mapping[str, Any]) -> Method:
        """Builds the method from the node `adapter`; raises ConfigError for what is wrong in it."""

    @abc.abstractmethod
    def describe(self, model: torch.nn.Module) -> str:
        """Describes the trained numbers in one line.

        Args:
            model: the base model, which may be on the meta device.

        Raises:
            ConfigError: the method does not fit the model; key, value, fix.
        """

    @abc.abstractmethod
    def size(self, dims: ModelDims) -> Size:
        """Counts what the method trains on a model of these dimensions."""

    @property
    def label(self) -> str:
        return self.name

    @property
    def verl_rank(self) -> int:
        return 0

    @property
    def transfer(self) -> str:
        """Describes the way of its weights to a rollout in verl's own sync."""
        return "whole weights"

    def check_verl_model(self, model: Mapping[str, Any]) -> None:
        """Raises ConfigError where verl's node `actor_rollout_ref.model` was overridden."""
        rank = (model.get("lora") or {}).get("rank")
        fits = model.get("model_type") == self.model_type
        if not self.has_vector:  # whose engine ignores verl's own rank
            fits = fits and model.get("lora_rank") == rank == self.verl_rank
        if not fits:
            raise ConfigError(
                f"actor_rollout_ref.model.model_type={model.get('model_type')}: choose "
                "adapter=tinylora, lora_xs, lora or full, and leave it as they set it"
            )

    def check_resumes(self, checkpoint: str, manifest: Mapping[str, Any] | None) -> None:
        """Raises ConfigError where a checkpoint is of another method or configuration.

        Args:
            manifest: of the adapter in the checkpoint; None where it has none.
        """
        if manifest is not None:
            raise ConfigError(
                f"trainer.resume={checkpoint}: is of a TinyLoRA adapter, this run trains no "
                "TinyLoRA adapter"
            )

    def register_engine(self) -> None:  # noqa: B027  # most need none
        """Registers the engine with verl; called in every worker before it builds a model.

        The engines of `tinylora`, `lora` and `full` are registered by the workers themselves.
        """

    # -- the end of a supervised run ---------------------------------------------------------------

    def trained_policy(self, run_dir: Path) -> TrainedPolicy:
        """Names the folder in which a finished supervised run has its policy."""
        return TrainedPolicy(model=run_dir / "model")

    def save_policy(self, module: torch.nn.Module, tokenizer: Any, run_dir: Path) -> None:
        """Writes the trained policy in a form that others read: a whole model unless overridden.

        Called once, after the last update, by all ranks; rank 0 writes. Weights keep their dtype.
        """
        with gathered_by_rank_zero(module, run_dir / "model") as fresh:
            if fresh is not None:
                tokenizer.save_pretrained(fresh)


METHODS: dict[str, type[Method]] = {}
"""{the value of `method`: its class}, filled as the files of the methods are imported."""

M = TypeVar("M", bound=type[Method])


def register_method(method: M) -> M:
    """Adds a subclass of `Method` to `METHODS`. A decorator.

    Raises:
        ValueError: another has its name, or it is no complete subclass.
    """
    if not issubclass(method, Method) or inspect.isabstract(method):
        missing = ", ".join(sorted(getattr(method, "__abstractmethods__", ())))
        raise ValueError(f"{method.__qualname__}: derive it from Method, and define {missing}")
    other = METHODS.get(method.name, method)
    if (other.__module__, other.__qualname__) != (method.__module__, method.__qualname__):
        raise ValueError(
            f"method name {method.name!r}: taken by {other.__qualname__}; choose another"
        )
    METHODS[method.name] = method
    return method


def make_method(name: str | None, options: Mapping[str, Any]) -> Method:
    """Builds the method `name` from the node `adapter`; raises ConfigError for what is wrong."""
    if name is None or name not in known_methods():
        shown = "null" if name is None else name
        raise ConfigError(f"method={shown}: choose from {', '.join(known_methods())}")
    return METHODS[name].from_options(options)


def known_methods() -> list[str]:
    """Imports the files of our own methods and returns the names of all."""
    for ours in ("full", "lora", "tinylora"):
        import_module(f"tinylora_rl.methods.{ours}")
    return sorted(METHODS)


def method_of_run(config: Mapping[str, Any]) -> Method:
    """Builds the method that a finished run's `config.yaml` states, or raises ConfigError."""
    return make_method(name_of_run(config), config.get("adapter") or {})


def name_of_run(config: Mapping[str, Any]) -> str:
    """Returns the name of the method that a finished run's `config.yaml` states, known or not.

    In configurations from before the key `method` the node `adapter` decides.
    """
    options = config.get("adapter") or {}
    name = config.get("method")
    if name is None:
        name = "full" if not options else "tinylora" if "u" in options else "lora"
    return str(name)


@contextmanager
def gathered_by_rank_zero(module: torch.nn.Module, directory: Path) -> Iterator[Path | None]:
    """Saves the whole weights of a sharded model from rank 0; all ranks take part.

    Yields the fresh folder that replaces `directory` at the end, and None on the other ranks.
    """
    import torch
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    state = get_model_state_dict(module, options=options)
    if torch.distributed.get_rank() == 0:
        with replacing_directory(directory) as fresh:
            module.save_pretrained(fresh, state_dict=state)  # type: ignore[operator]
            yield fresh
    else:
        yield None
    torch.distributed.barrier()
