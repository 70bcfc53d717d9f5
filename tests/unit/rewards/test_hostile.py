import time

import pytest

from tests.unit.rewards.hostile import FAMILIES, GOLDS, hostile
from tinylora_rl.rewards import JUDGES, Gold, GradingPool, Submission, compute_score, judge
from tinylora_rl.rewards.judges import is_isolated
from tinylora_rl.rewards.process import WALL_FACTOR

EXACT = [name for name in JUDGES if not is_isolated(name)]
DEADLINE_S = 0.5
NUM = 3 * len(FAMILIES)


def test_hostile_answers_all_come_back():
    responses = list(hostile(NUM))
    work = [
        Submission(response=response, gold=Gold(answer=gold), judges=tuple(JUDGES))
        for _, response, gold in responses
    ]
    with GradingPool(num_workers=2, deadline_s=DEADLINE_S, memory_limit_bytes=512 << 20) as pool:
        results = pool.grade_many(work)
        counts = pool.counts
    assert len(results) == NUM
    for (family, response, gold), graded in zip(responses, results, strict=True):
        assert list(graded.judged) == list(JUDGES)
        # Three seconds: exact judges, ending a process, and other work on the machine.
        assert graded.grade_s < WALL_FACTOR * DEADLINE_S + 3, (family, response[:200])
        timed_out = [name for name, one in graded.judged.items() if one.verdict == "timed_out"]
        assert bool(timed_out) == (graded.failure is not None)
        assert all(is_isolated(name) for name in timed_out)
        for name in EXACT:
            expected = judge(name, response, Gold(answer=gold))
            assert graded.judged[name] == expected, (family, response[:200])
    lost = sum(counts[cause] for cause in ("deadline", "memory", "crash", "garbage"))
    assert lost == sum(graded.failure is not None for graded in results)
    # Of proper and improper answers alike, most must be judged, or the deadline is what is tested.
    assert lost < NUM / 5, counts


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_what_is_hostile_has_the_keys_and_values_of_the_rest(family):
    keys = compute_score("math", "#### 1", "1").keys()
    for name, response, gold in hostile(len(FAMILIES), seed=1):
        if name == family.__name__:
            result = compute_score("math", response, gold, log_judges=EXACT[:2])
            assert result.keys() == keys


# Linear time is why exact judges may run outside of the pool.
UNITS = [
    *(
        "1",
        "1+",
        "1 ",
        "1,",
        "1.",
        "1 + ",
        "1e",
        "1:",
        "1/",
        " 111",
        "1{,}",
        "1+-{\\$",
        "-",
        ".",
        "$",
    ),
    *(
        "#",
        "####",
        "#### ",
        "#### 1 ",
        "####1",
        "{",
        "}",
        "\\",
        "\\{",
        r"\boxed",
        r"\boxed{",
        r"\boxed {",
    ),
    *(
        r"\boxed{}",
        r"\frac",
        r"\frac{",
        r"\frac{1}",
        r"\frac{1}{2}",
        r"1\times ",
        "\u00b2",
        "\u2212",
    ),
    *(
        " ",
        "\t",
        "\n",
        "\r",
        "\u00a0",
        "a",
        "\ud800",
        "\u0661",
        "(",
        ")",
        "|",
        r"\left(",
        r"\text{",
        ",",
    ),
    *(r"\boxed{1", r"\boxed{1}", "1}", "1\n", r"\$1", "%", "1k", "and ", r"\cup ", "x=", "[", "&"),
    *(
        r"\sqrt{",
        r"\sqrt[3]{1}",
        r"\frac{{1}",
        r"\frac{aaaaaaaa",
        r"1\frac{{}{}{}",
        "5x",
        "\u221a",
        "1\\pi",
    ),
]


def seconds(name, response):
    start = time.process_time()
    judge(name, response, Gold(answer="72"))
    return time.process_time() - start


@pytest.mark.parametrize("name", EXACT)
def test_exact_judges_take_linear_time(name):
    """Thirty thousand characters of anything in half a second: quadratic takes half a minute."""
    for unit in UNITS:
        run = (unit * 30_000)[:30_000]
        for response in (run, "1" + run, "#### " + run, r"\boxed{" + run, rf"\boxed{{{run}}}"):
            assert seconds(name, response) < 0.5, (unit, response[:20])


@pytest.mark.parametrize("name", EXACT)
def test_an_answer_just_below_the_cap_takes_milliseconds(name):
    """`normalise` sees no more than MAX_ANSWER_CHARS; up to there it may not explode either."""
    for unit in UNITS:
        for length in (60, 990):
            run = (unit * length)[:length]
            for response in (f"#### {run}", rf"\boxed{{{run}}}", rf"\boxed{{1,{run}}}"):
                for gold in (*GOLDS, run):
                    start = time.process_time()
                    judge(name, response, Gold(answer=gold, unordered=True, tolerance=0.1))
                    assert time.process_time() - start < 0.5, (unit, length, gold[:20])


def test_exact_throughput():
    """1,024 responses of 3 kB under two judges: 0.4 s of a processor when written, 4 s here."""
    text = r"So $\frac{1}{2} + 3 x^2 = 5$, and 12 times 4.5 is 54. "
    text = (text * 60)[:2980]
    work = [
        Submission(
            response=f"{text}\n#### {i}", gold=Gold(answer="5"), judges=("strict", "flexible")
        )
        for i in range(1024)
    ]
    with GradingPool() as pool:
        start = time.process_time()
        results = pool.grade_many(work)
        assert time.process_time() - start < 4
        assert pool.pids == []
    assert [g.judged["strict"].verdict for g in results].count("right") == 1
