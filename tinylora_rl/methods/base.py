"""The interface of a method: what it trains, how that is counted, sent and saved."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

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
        factor_numbers: numbers of rank-r factors for those weights; 0 for a method without.
        vector_bytes: bytes of v as it travels, fp32; 0 for a method without v.
        bank_bytes: bytes of U, S, Vt and P in fp32; 0 for a method without.
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
        """Builds the method from the configuration's node `adapter`.

        Raises:
            ConfigError: an option is unknown or out of range; key, value, fix.
        """

    @abc.abstractmethod
    def describe(self, model: torch.nn.Module) -> str:
        """Describes the trained numbers in one line, for the opening of a run.

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
        """Name by which tables tell methods apart."""
        return self.name

    @property
    def verl_rank(self) -> int:
        return 0

    @property
    def transfer(self) -> str:
        """The way of its weights to a rollout in verl's own sync, for the opening of a run."""
        return "whole weights"

    def check_verl_model(self, model: Mapping[str, Any]) -> None:
        """Checks that verl's node `actor_rollout_ref.model` is as this method set it.

        Raises:
            ConfigError: a key was overridden in a way that trains something else.
        """
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
        """Checks that a checkpoint is of this method, with this configuration.

        Args:
            manifest: of the adapter in the checkpoint; None where it has none.

        Raises:
            ConfigError: it is of another method or configuration.
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
        """Writes the trained policy in a form that others read.

        Called once, after the last update, by all ranks; rank 0 writes. Weights keep the dtype
        that they were trained in. By default a whole Hugging Face model with its tokenizer.
        """
        from tinylora_rl.methods.saving import gathered, rank_zero_writes

        state = gathered(module)
        with rank_zero_writes(run_dir / "model") as fresh:
            if fresh is not None:
                module.save_pretrained(fresh, state_dict=state)  # type: ignore[operator]
                tokenizer.save_pretrained(fresh)
