"""Measures a model on given problems: accuracy, length of answers, share of terse ones."""

from collections.abc import Sequence
from typing import Any

import torch
from embedded_model.completions import final_answer, is_terse
from transformers import Qwen2ForCausalLM, Qwen2Tokenizer

from tinylora_rl.tasks.arithmetic import Problem

MAX_NEW_TOKENS = 48  # the longest completion, three times "Hm" and all the work, has 38


def encode_prompt(tokenizer: Qwen2Tokenizer, question: str) -> list[int]:
    """Returns the token ids of the question as a user's turn, with the assistant's turn opened."""
    messages = [{"role": "user", "content": question}]
    return list(
        tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    )


@torch.no_grad()
def probe(
    model: Qwen2ForCausalLM,
    tokenizer: Qwen2Tokenizer,
    problems: Sequence[Problem],
    *,
    temperature: float,
    seed: int,
) -> dict[str, float | None]:
    """Samples one completion per problem, greedily if `temperature` is 0.

    Returns shares in [0, 1], `accuracy`, `terse_share`, `accuracy_of_terse`, `accuracy_of_worked`
    (None where there is none), and `mean_tokens`, the mean response length with its end-of-turn
    token. Torch's global generator is left as it was.
    """
    prompts = [encode_prompt(tokenizer, problem.question) for problem in problems]
    longest = max(map(len, prompts))
    pad = tokenizer.pad_token_id
    ids_BT = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_k": None}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        output_BT = model.generate(  # type: ignore[misc]  # its stub wants a protocol
            input_ids=ids_BT,
            attention_mask=(ids_BT != pad).long(),
            max_new_tokens=MAX_NEW_TOKENS,
            pad_token_id=pad,
            eos_token_id=tokenizer.eos_token_id,
            **sampling,
        )[:, longest:]
    texts = tokenizer.batch_decode(output_BT, skip_special_tokens=True)
    right = [
        final_answer(text) == problem.answer for text, problem in zip(texts, problems, strict=True)
    ]
    terse = [is_terse(text) for text in texts]
    by_habit = list(zip(right, terse, strict=True))
    return {
        "accuracy": _share(right),
        "accuracy_of_terse": _share([is_right for is_right, hasty in by_habit if hasty]),
        "accuracy_of_worked": _share([is_right for is_right, hasty in by_habit if not hasty]),
        "terse_share": _share(terse),
        "mean_tokens": (output_BT != pad).sum().item() / len(problems),
    }


def _share(claims: Sequence[bool]) -> float | None:
    return sum(claims) / len(claims) if claims else None
