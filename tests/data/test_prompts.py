import pytest

from tinylora_rl.data import TEMPLATES, DataError, template_named


def test_gsm8k_hash_is_verls():
    assert TEMPLATES["gsm8k_hash"]("What is 1+1?") == [
        {
            "role": "user",
            "content": "What is 1+1? Let's think step by step and output the final answer"
            ' after "####".',
        }
    ]


def test_boxed_is_simplerls():
    assert TEMPLATES["boxed"]("What is 1+1?") == [
        {"role": "system", "content": "You are a helpful assistant."},
        {
            "role": "user",
            "content": "What is 1+1?\nPlease reason step by step, and put your final answer"
            " within \\boxed{}.",
        },
    ]


def test_template_by_name():
    assert template_named("boxed") is TEMPLATES["boxed"]
    with pytest.raises(DataError, match=r"data\.template=x: .*gsm8k_hash, boxed"):
        template_named("x")
