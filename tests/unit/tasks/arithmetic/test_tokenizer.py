from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_model.completions import terse_completion
from embedded_model.probe import encode_prompt
from embedded_model.tokenizer import SPECIAL_TOKENS, train_tokenizer
from transformers import AutoTokenizer, Qwen2Tokenizer

from tinylora_rl.tasks.arithmetic import base_model_dir, sample_problems


@pytest.fixture(scope="module")
def tokenizer() -> Qwen2Tokenizer:
    return AutoTokenizer.from_pretrained(base_model_dir())


def _texts() -> Iterator[str]:
    for split in ("train", "test"):
        for problem in sample_problems(split, 500, seed=5):
            yield from (problem.question, problem.worked, terse_completion(problem.answer))


def test_auto_tokenizer_builds_the_qwen2_class(tokenizer: Qwen2Tokenizer) -> None:
    """It does so for every qwen2 folder; a vocabulary not made for it loses spaces in silence."""
    assert isinstance(tokenizer, Qwen2Tokenizer)


def test_encoding_and_decoding_is_the_identity(tokenizer: Qwen2Tokenizer) -> None:
    for text in [*_texts(), "Let's think: wörld 你好 \n\n x  y\t#### -7"]:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_prompts_survive_the_chat_template(tokenizer: Qwen2Tokenizer) -> None:
    ids = encode_prompt(tokenizer, "What is 7+8-3+5?")
    assert tokenizer.decode(ids) == (
        "<|im_start|>user\nWhat is 7+8-3+5?<|im_end|>\n<|im_start|>assistant\n"
    )
    messages = [{"role": "user", "content": "What is 7+8-3+5?"}]
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"] == ids


def test_verl_s_needs_are_met(tokenizer: Qwen2Tokenizer) -> None:
    assert len(tokenizer("\n")["input_ids"]) == 1
    for token in SPECIAL_TOKENS:
        assert tokenizer(token)["input_ids"] == [tokenizer.convert_tokens_to_ids(token)]
        assert token in tokenizer.all_special_tokens
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.pad_token == "<|endoftext|>"


def test_each_digit_is_a_token(tokenizer: Qwen2Tokenizer) -> None:
    assert tokenizer.tokenize("1234567890") == list("1234567890")


def test_training_it_again_gives_the_shipped_one(tokenizer: Qwen2Tokenizer, tmp_path: Path) -> None:
    train_tokenizer(seed=0).save_pretrained(tmp_path)
    name = "tokenizer.json"
    assert (tmp_path / name).read_text() == (base_model_dir() / name).read_text()
