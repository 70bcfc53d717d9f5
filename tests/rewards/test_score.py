import inspect
import json
import os
import subprocess
import sys
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.rewards import compute_score

SOURCE = "openai/gsm8k"
KEYS = {"score", "acc", "strict", "flexible", "no_answer"}

# What a model writes around its answer, in the format and not.
IN_FORMAT = [
    "#### {}",
    "#### {}\n",
    "#### {}.",
    "#### {} dollars",
    "#### {} dollars per hour",
    "48 / 2 = 24\n24 + 48 = 72\n#### {}",
    "1. Half of 48.\n2. Add 10,000.\n\n**Answer:**\n\n#### {}",
    "Let's think step by step.\n#### 99999\nWait.\n#### {}",
    "The answer is -1.\n#### {}\n\nThanks!",
]
OUT_OF_FORMAT = [
    "The answer is {}.",
    "So she has {} apples left.",
    "Total = {}",
    "Total: **{}**",
    r"\boxed{{{}}}",
    r"The answer is $\boxed{{{}}}$.",
    r"\[ 3 + 4 = {} \]",
    "####{}",
    "### {}",
    "Answer: ${}",
    "#### ${}",
    "#### **{}**",
]
GOLDS = ["72", "5", "1080", "109200000", "0", "2.5"]


def _grouped(gold):
    return f"{int(gold):,}" if gold.isdigit() else gold


@pytest.mark.parametrize("gold", GOLDS)
@pytest.mark.parametrize("template", IN_FORMAT)
def test_right_answer_in_the_format(template, gold):
    for written in {gold, _grouped(gold)}:
        result = compute_score(SOURCE, template.format(written), gold)
        assert result == {"score": 1.0, "acc": 1.0, "strict": 1.0, "flexible": 1.0, "no_answer": 0}


@pytest.mark.parametrize("gold", GOLDS)
@pytest.mark.parametrize("template", OUT_OF_FORMAT)
def test_right_answer_out_of_the_format(template, gold):
    for written in {gold, _grouped(gold)}:
        result = compute_score(SOURCE, template.format(written), gold)
        assert result == {"score": 0, "acc": 0, "strict": 0, "flexible": 1.0, "no_answer": 1.0}


@pytest.mark.parametrize("gold", GOLDS)
@pytest.mark.parametrize("template", IN_FORMAT + OUT_OF_FORMAT)
def test_wrong_answers_never_score(template, gold):
    wrong = [f"{gold}1", f"1{gold}", f"{gold}.5", f"{gold}/0", f"{gold}-9", f"{gold}e3", f"{gold}k"]
    wrong += [f"{gold},5", f"{gold}:30", f"{gold}^2", f"{gold} 500", f"3,{gold}", f"{gold} 1/2"]
    if gold != "0":
        wrong += [f"-{gold}", f"\u2212{gold}", f"0.{gold}", f"9{gold}0", f"{gold}/7"]
    for written in wrong:
        result = compute_score(SOURCE, template.format(written), gold)
        assert result["score"] == result["strict"] == result["flexible"] == 0.0, written


@pytest.mark.parametrize(
    ("response", "strict", "flexible"),
    [
        ("#### 72\nCheck: 70 + 2 is 72, not 73.", 1.0, 0.0),
        ("#### 73\nSorry, it is 72", 0.0, 1.0),
        ("#### 72\n#### 73", 0.0, 0.0),
        ("#### 73\n#### 72", 1.0, 1.0),
        ("#### 72\n#### $73", 0.0, 0.0),
        ("#### 72 - 1 = 71", 0.0, 0.0),
        ("#### ", 0.0, 0.0),
        ("", 0.0, 0.0),
    ],
)
def test_which_number_counts(response, strict, flexible):
    result = compute_score(SOURCE, response, "72")
    assert (result["strict"], result["flexible"]) == (strict, flexible)


@pytest.mark.parametrize("extractor", ["strict", "flexible", "boxed"])
def test_the_chosen_extractor_decides(extractor):
    responses = {"strict": "#### 72 not 1", "flexible": "it is 72", "boxed": r"\boxed{72} not 1"}
    for name, response in responses.items():
        result = compute_score(SOURCE, response, "72", extractor=extractor)
        assert result.keys() == KEYS
        assert result["score"] == result["acc"] == float(name == extractor)


def test_boxed_latex():
    grade = partial(compute_score, "math", extractor="boxed", log_extractors=["boxed"])
    assert grade(r"So \boxed{\dfrac{14}{3}}.", r"\frac{14}{3}") == {
        "score": 1.0,
        "acc": 1.0,
        "boxed": 1.0,
        "no_answer": 0.0,
    }
    assert grade(r"\boxed{\left(3,\tfrac{\pi}{2}\right)}", r"\left( 3, \frac{\pi}{2} \right)")[
        "acc"
    ]
    assert not grade(r"\boxed{\frac{14}{-3}}", r"\frac{14}{3}")["acc"]
    assert grade(r"\boxed{}", "5") == {"score": 0, "acc": 0, "boxed": 0, "no_answer": 1.0}


@given(st.text(max_size=200))
def test_same_keys_and_plain_floats_for_any_response(response):
    result = compute_score(SOURCE, response, "72")
    assert result.keys() == KEYS
    assert all(type(value) is float and value in (0.0, 1.0) for value in result.values())


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"extractor='loose'.*strict, flexible, boxed"):
        compute_score(SOURCE, "", "72", extractor="loose")
    with pytest.raises(ValueError, match=r"log_extractors='loose'.*strict, flexible, boxed"):
        compute_score(SOURCE, "", "72", log_extractors=["strict", "loose"])
    with pytest.raises(ValueError, match=r"write \[strict\]"):
        compute_score(SOURCE, "", "72", log_extractors="strict")
    with pytest.raises(TypeError, match="format_score"):
        compute_score(SOURCE, "", "72", format_score=0.1)


def test_reward_kwargs_as_verl_passes_them():
    """verl calls with keywords, and with lists that are OmegaConf's."""
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"extractor": "boxed", "log_extractors": ["strict"]})
    call = partial(compute_score, data_source=SOURCE, ground_truth="72", extra_info={"index": 0})
    result = call(solution_str=r"\boxed{72}", **dict(config))
    assert result == {"score": 1.0, "acc": 1.0, "strict": 0.0, "no_answer": 0.0}
    assert not inspect.iscoroutinefunction(compute_score)  # verl then runs it in a thread


def test_importing_rewards_imports_nothing_heavy():
    heavy = ["torch", "verl", "vllm", "ray", "datasets", "numpy"]
    code = f"import sys, tinylora_rl.rewards; print([m for m in {heavy} if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=env)
    assert out.stdout.strip() == b"[]"


def test_every_real_gold_answer_is_right(real_gsm8k):
    num_right = 0
    for name in ("train.jsonl", "test.jsonl"):
        for line in (real_gsm8k / name).read_text(encoding="utf-8").splitlines():
            answer = json.loads(line)["answer"]
            gold = answer.rpartition("####")[2].strip().replace(",", "")
            result = compute_score(SOURCE, answer, gold)
            assert result["strict"] == result["flexible"] == 1.0, answer
            num_right += 1
    assert num_right == 8_792
