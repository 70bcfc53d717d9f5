"""Computes log-probs of a given text with vLLM itself."""

from __future__ import annotations

import uuid
from typing import Any


async def prompt_log_probs(
    engine: Any, token_ids: list[int], lora_request: Any = None
) -> list[float]:
    """Returns log p(token | all before it) of token_ids[1:]: natural logarithms, at temperature 1.

    Args:
        engine: a vLLM AsyncLLM.
    """
    from vllm import SamplingParams

    sampling = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
    outputs = engine.generate(
        {"prompt_token_ids": token_ids},
        sampling,
        request_id=f"canary-{uuid.uuid4().hex}",
        lora_request=lora_request,
    )
    async for output in outputs:
        last = output
    return [
        entry[token].logprob
        for token, entry in zip(token_ids[1:], last.prompt_logprobs[1:], strict=True)
    ]
