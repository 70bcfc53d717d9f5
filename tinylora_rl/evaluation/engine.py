"""One vLLM engine that answers for every policy of an evaluation.

`factors`: an adapter is a LoRA request, exact up to the dtype of its rank-r factors; nothing is
rounded into the weights. `merged`: the workers merge W + dW(v), rounded as in training's rollout,
once for each policy, and restore the base weights for the base.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tinylora_rl.evaluation.plan import Key, Policy, Question
from tinylora_rl.vllm_plugin.lora_limits import lora_options, slot_rank
from tinylora_rl.vllm_plugin.worker_extension import EXTENSION

MAX_RESIDENT_ADAPTERS = 8
"""Adapters on the device at once; vLLM swaps others in as their requests come up."""

REQUESTS_AHEAD = 4
"""Requests given to the engine, in multiples of what it runs at once: it never waits for more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Response:
    """The response to one key's question; `truncated` if it was cut at the limit."""

    key: Key
    question: Question
    token_ids: tuple[int, ...]
    truncated: bool


class Engine:
    """vLLM, started once.

    Args:
        options: keyword arguments of `vllm.LLM` (dtype, max_num_seqs, ...).
        lora_dirs: {policy name: directory of its adapter, or of a PEFT LoRA}; None merges instead.
        rank: the largest of the adapters', where `lora_dirs` is given.
        rounding: of merged weights to the engine's dtype.
    """

    def __init__(
        self,
        model: str,
        *,
        options: Mapping[str, Any],
        lora_dirs: Mapping[str, Path] | None,
        rank: int,
        rounding: str,
    ) -> None:
        from vllm import LLM

        self._lora_dirs = lora_dirs
        self._rounding = rounding
        self._merged: str | None = None  # directory of the adapter in the merged weights
        lora: dict[str, Any] = {}
        if lora_dirs:
            slots = min(len(lora_dirs), MAX_RESIDENT_ADAPTERS)
            lora = lora_options(rank=slot_rank(rank), slots=slots, known=len(lora_dirs))
        self._llm = LLM(model, worker_extension_cls=EXTENSION, **lora, **options)
        self._ahead = REQUESTS_AHEAD * int(options["max_num_seqs"])

    def answer(
        self,
        policy: Policy,
        requests: Sequence[tuple[Key, Question]],
        sampling_params: Mapping[Key, Mapping[str, Any]],
    ) -> Iterator[Response]:
        """Yields a response for every request as it completes; every question needs a prompt."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        lora_request = None
        if self._lora_dirs is None:
            wanted = str(policy.directory) if policy.directory is not None else None
            if wanted != self._merged:
                self._llm.collective_rpc("load_adapter", args=(wanted, self._rounding))
                self._llm.reset_prefix_cache()
                self._merged = wanted
        elif policy.directory is not None:
            number = 1 + list(self._lora_dirs).index(policy.name)
            lora_request = LoRARequest(policy.name, number, str(self._lora_dirs[policy.name]))
        engine = self._llm.llm_engine
        pending: dict[str, tuple[Key, Question]] = {}
        waiting = iter(enumerate(requests))
        while True:
            while len(pending) < self._ahead and (entry := next(waiting, None)) is not None:
                number, (key, question) = entry
                assert question.prompt_token_ids is not None
                engine.add_request(
                    f"{policy.name}-{number}",
                    {"prompt_token_ids": list(question.prompt_token_ids)},
                    SamplingParams(**sampling_params[key]),
                    lora_request=lora_request,
                )
                pending[f"{policy.name}-{number}"] = (key, question)
            if not pending:
                return
            for output in engine.step():
                if output.finished:
                    key, question = pending.pop(output.request_id)
                    reason = output.outputs[0].finish_reason
                    if reason not in ("stop", "length"):
                        raise RuntimeError(f"vLLM ended the request for {key} with {reason!r}")
                    yield Response(
                        key=key,
                        question=question,
                        token_ids=tuple(output.outputs[0].token_ids),
                        truncated=reason == "length",
                    )
