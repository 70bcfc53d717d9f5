import inspect
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.rewards import compute_score

SOURCE = "openai/gsm8k"
KEYS = {"score", "acc", "strict", "flexible", "no_answer", "timed_out", "grade_s"}
KEYS_OF_VERDICT = KEYS - {"timed_out", "grade_s"}

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


def verdict(result):
    """What the response was worth, without how long it took."""
    return {key: value for key, value in result.items() if key not in ("timed_out", "grade_s")}


def _grouped(gold):
    return f"{int(gold):,}" if gold.isdigit() else gold


@pytest.mark.parametrize("gold", GOLDS)
@pytest.mark.parametrize("template", IN_FORMAT)
def test_right_answer_in_the_format(template, gold):
    for written in {gold, _grouped(gold)}:
        result = compute_score(SOURCE, template.format(written), gold)
        assert verdict(result) == dict.fromkeys(KEYS_OF_VERDICT, 1.0) | {"no_answer": 0.0}


@pytest.mark.parametrize("gold", GOLDS)
@pytest.mark.parametrize("template", OUT_OF_FORMAT)
def test_right_answer_out_of_the_format(template, gold):
    for written in {gold, _grouped(gold)}:
        result = compute_score(SOURCE, template.format(written), gold)
        assert verdict(result) == dict.fromkeys(KEYS_OF_VERDICT, 0.0) | {
            "flexible": 1.0,
            "no_answer": 1.0,
        }


@pytest.mark.parametrize("gold", GOLDS)
@pytest.mark.parametrize("template", IN_FORMAT + OUT_OF_FORMAT)
def test_wrong_answers_never_score(template, gold):
    wrong = [f"{gold}1", f"1{gold}", f"{gold}.5", f"{gold}/0", f"{gold}-9", f"{gold}k"]
    wrong += [f"{gold},5", f"{gold}:30", f"{gold}^2", f"{gold} 500", f"3,{gold}", f"{gold} 1/2"]
    if gold != "0":
        wrong += [f"-{gold}", f"\u2212{gold}", f"0.{gold}", f"9{gold}0", f"{gold}/7", f"{gold}e3"]
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


@pytest.mark.parametrize("judge", ["strict", "flexible", "boxed"])
def test_the_chosen_judge_decides(judge):
    responses = {"strict": "#### 72 not 1", "flexible": "it is 72", "boxed": r"\boxed{72} not 1"}
    for name, response in responses.items():
        result = compute_score(SOURCE, response, "72", judge=judge)
        assert result.keys() == KEYS
        assert result["score"] == result["acc"] == float(name == judge)


def test_boxed_latex():
    grade = partial(compute_score, "math", judge="boxed", log_judges=["boxed"])
    assert verdict(grade(r"So \boxed{\dfrac{14}{3}}.", r"\frac{14}{3}")) == {
        "score": 1.0,
        "acc": 1.0,
        "boxed": 1.0,
        "no_answer": 0.0,
    }
    assert grade(r"\boxed{\left(3,\tfrac{\pi}{2}\right)}", r"\left( 3, \frac{\pi}{2} \right)")[
        "acc"
    ]
    assert not grade(r"\boxed{\frac{14}{5}}", r"\frac{14}{3}")["acc"]
    assert verdict(grade(r"\boxed{}", "5")) == {"score": 0, "acc": 0, "boxed": 0, "no_answer": 1.0}


def test_extra_info_says_how_the_gold_answer_is_meant():
    grade = partial(compute_score, "math", judge="boxed", log_judges=[])
    near = partial(grade, r"\boxed{3.14}", "3.15")
    assert [near({"tolerance": t})["acc"] for t in (None, 0.001, 0.02)] == [0.0, 0.0, 1.0]
    assert near(None)["acc"] == near({})["acc"] == 0.0
    swapped = partial(grade, r"\boxed{5, -3}", "-3, 5")
    assert [swapped({"unordered": u})["acc"] for u in (None, False, True)] == [0.0, 0.0, 1.0]


@given(st.text(st.characters(codec=None), max_size=200))
def test_same_keys_and_plain_floats_for_any_response(response):
    result = compute_score(SOURCE, response, "72")
    assert result.keys() == KEYS
    assert all(type(value) is float for value in result.values())
    assert set(verdict(result).values()) <= {0.0, 1.0}
    assert result["timed_out"] == 0.0 <= result["grade_s"]


def test_the_order_of_keys_is_the_recipes():
    """verl reads the keys off the first sample."""
    grade = partial(compute_score, SOURCE, ground_truth="72", log_judges=["boxed", "strict"])
    assert list(grade(solution_str="")) == list(grade(solution_str="#### 72"))
    assert list(grade(solution_str=""))[2:4] == ["boxed", "strict"]


def test_arguments_are_checked():
    with pytest.raises(ValueError, match=r"\.judge='loose': no such judge.*strict, flexible, box"):
        compute_score(SOURCE, "", "72", judge="loose")
    with pytest.raises(ValueError, match=r"log_judges='loose'.*strict, flexible, boxed"):
        compute_score(SOURCE, "", "72", log_judges=["strict", "loose"])
    with pytest.raises(ValueError, match=r"write \[strict\]"):
        compute_score(SOURCE, "", "72", log_judges="strict")
    with pytest.raises(ValueError, match=r"\.control='lucky'.*null, format_only, random, always_w"):
        compute_score(SOURCE, "", "72", control="lucky")
    for key in ("deadline_s", "memory_limit_mb", "num_workers"):
        with pytest.raises(ValueError, match=rf"reward_kwargs\.{key}=0: must be above 0"):
            compute_score(SOURCE, "", "72", **{key: 0})
    with pytest.raises(TypeError, match="format_score"):
        compute_score(SOURCE, "", "72", format_score=0.1)


def test_reward_kwargs_as_verl_passes_them():
    """verl calls with keywords, with lists that are OmegaConf's, and with a reward model's."""
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(
        {"judge": "boxed", "log_judges": ["strict"], "control": None, "deadline_s": 5}
    )
    call = partial(compute_score, data_source=SOURCE, ground_truth="72", extra_info={"index": 0})
    result = call(
        solution_str=r"\boxed{72}",
        **dict(config),
        reward_router_address="127.0.0.1:1",
        reward_model_tokenizer=object(),
    )
    assert verdict(result) == {"score": 1.0, "acc": 1.0, "strict": 0.0, "no_answer": 0.0}
    assert not inspect.iscoroutinefunction(compute_score)  # verl then runs it in a thread


def test_symbolic_judges_are_graded_in_processes_that_are_shared():
    grade = partial(compute_score, "math", judge="boxed_symbolic", log_judges=["boxed"])
    grade = partial(grade, deadline_s=20.0, num_workers=1)
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(grade, [r"\boxed{2(x+1)}", r"\boxed{2x}"] * 4, ["2x+2"] * 8))
    assert [result["score"] for result in results] == [1.0, 0.0] * 4
    assert {result["boxed"] for result in results} == {0.0}
    assert not any(result["timed_out"] for result in results)
    assert all(0 < result["grade_s"] < 20 for result in results)


def test_an_answer_out_of_time_is_counted_and_does_not_touch_the_exact_judges():
    late = partial(compute_score, "math", r"#### 5 \boxed{x(x+1)-x^2-x+5}", "5", deadline_s=1e-6)
    result = late(judge="boxed_symbolic", log_judges=["strict", "boxed"])
    assert result["timed_out"] == 1.0
    assert (result["score"], result["no_answer"], result["strict"]) == (0.0, 0.0, 1.0)
    # A verdict that is only logged is not passed off as a zero either.
    result = late(judge="strict", log_judges=["boxed_symbolic"])
    assert (result["score"], result["boxed_symbolic"], result["timed_out"]) == (1.0, 0.0, 1.0)
    assert late(judge="strict", log_judges=["boxed"])["timed_out"] == 0.0


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
