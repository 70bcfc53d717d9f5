"""One object for the base model of a command. Each part is made on first use and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinylora_rl.base_model.dims import ModelDims, dims_of
from tinylora_rl.base_model.folder import (
    checkpoint_folder,
    commit_of,
    local_folder,
    refuse_code_of_its_own,
)
from tinylora_rl.errors import ConfigError, first_line

if TYPE_CHECKING:
    from tinylora_rl.adapter import CheckpointWeights


@dataclasses.dataclass(frozen=True)
class BaseModel:
    """A folder, or a repository of the Hub at one commit.

    verl, vLLM and the bank each resolve a hub id by themselves, and know no revision: give them
    `folder`.

    Attributes:
        id: folder or hub id, as people write it.
        revision: commit of the hub repository; None takes the newest.
        chat_template_kwargs: further arguments of the chat template, for instance
            {"enable_thinking": False}.
        key: the setting that `id` comes from, which errors name.
    """

    id: str
    revision: str | None = None
    chat_template_kwargs: Mapping[str, Any] = dataclasses.field(
        default_factory=dict, kw_only=True, hash=False
    )
    key: str = dataclasses.field(default="base_model.path", kw_only=True)

    def __str__(self) -> str:
        """Returns the id and, where it is known, the commit."""
        return self.id if self.commit is None else f"{self.id} at {self.commit}"

    @cached_property
    def folder(self) -> Path:
        """The folder of the files, downloaded where they are not here yet; or ConfigError."""
        try:
            folder = checkpoint_folder(self.id, revision=self.revision)
        except ValueError as error:
            raise ConfigError(f"{self.key}={error}") from error
        refuse_code_of_its_own(self.id, folder, key=self.key)
        return folder

    @property
    def commit(self) -> str | None:
        """The commit of `folder`; None of a folder that is no snapshot of the Hub."""
        return commit_of(self.folder)

    @cached_property
    def dims(self) -> ModelDims | None:
        """The sizes, without a download; None where they are not known."""
        here = local_folder(self.id, revision=self.revision)
        return dims_of(self.id, here)

    @cached_property
    def context(self) -> int:
        """Tokens of prompt and response that the model takes; ConfigError if it states none."""
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.key}={self.id}: {first_line(error)}") from error
        context = getattr(config, "max_position_embeddings", None)
        if context is None:
            raise ConfigError(
                f"{self.key}={self.id}: its configuration states no max_position_embeddings; only "
                "plain causal language models are supported"
            )
        return int(context)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer; ConfigError if there is none, or it has no chat template."""
        from transformers import AutoTokenizer

        if not any(self.folder.glob("tokenizer*")):
            raise ConfigError(
                f"{self.key}={self.id}: no tokenizer files; copy tokenizer.json and its config "
                "there"
            )
        try:
            tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{self.key}={self.id}: no usable tokenizer ({first_line(error)})"
            ) from error
        if tokenizer.chat_template is None:
            raise ConfigError(
                f"{self.key}={self.id}: the tokenizer has no chat template; use an Instruct model"
            )
        return tokenizer

    @cached_property
    def weights(self) -> CheckpointWeights:
        """The weights, read one at a time; ConfigError if quantised, damaged, no safetensors."""
        from tinylora_rl.adapter import CheckpointWeights

        try:
            return CheckpointWeights(self.folder)
        except ValueError as error:
            raise ConfigError(f"{self.key}={self.id}: {error}") from error

    def ask(self, messages: Iterable[Mapping[str, object]]) -> list[int]:
        """Returns `messages` as token ids of verl's rollout, with chat template and turn begun."""
        token_ids: Iterable[int] = self.tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            add_generation_prompt=True,
            return_dict=False,
            **self.chat_template_kwargs,
        )
        return list(token_ids)
