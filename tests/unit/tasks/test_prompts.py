import pytest

from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards.judges import JUDGES
from tinylora_rl.tasks import TEMPLATES, template_named


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


def test_natural_is_verls_prompt_without_the_format():
    (natural,) = TEMPLATES["natural"]("What is 1+1?")
    (verls,) = TEMPLATES["gsm8k_hash"]("What is 1+1?")
    assert natural["role"] == "user"
    assert natural["content"] == "What is 1+1? Let's think step by step."
    assert verls["content"].startswith(natural["content"].removesuffix("."))
    assert "answer" not in natural["content"]


def test_every_template_has_a_judge_that_reads_its_format():
    judges = {name: template.judge for name, template in TEMPLATES.items()}
    assert judges == {"gsm8k_hash": "strict", "boxed": "boxed", "natural": "flexible"}
    assert set(judges.values()) <= set(JUDGES)


def test_template_by_name():
    assert template_named("boxed") is TEMPLATES["boxed"]
    with pytest.raises(ConfigError, match=r"data\.template=x: .*gsm8k_hash, boxed, natural"):
        template_named("x")
