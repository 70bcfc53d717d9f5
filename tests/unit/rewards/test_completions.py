from collections import Counter

import pytest

from tests.unit.rewards import completions, completions_wrong
from tinylora_rl.rewards.judges import JUDGES, Gold, judge

# How many right rows each judge may miss: as many as the table names, no more.
MISSED = {"strict": 0, "flexible": 0, "flexible_symbolic": 0}
MISSED["boxed_symbolic"] = len(completions.BOXED_MISSED)
MISSED["boxed"] = MISSED["boxed_symbolic"] + len(completions.BOXED_ALGEBRA)

TABLES = {**vars(completions), **vars(completions_wrong)}

ROWS = [  # judge, response, gold, is it right, is it seen
    (name, response, gold, truth, truth)
    for family, names in completions.JUDGES_OF.items()
    for truth in (True, False)
    for response, gold in TABLES[f"{family}_{'RIGHT' if truth else 'WRONG'}"]
    for name in names
]
for response, gold in completions.BOXED_ALGEBRA:
    ROWS += [("boxed", response, gold, True, False), ("boxed_symbolic", response, gold, True, True)]
for response, gold, _ in completions.BOXED_MISSED:
    ROWS += [(name, response, gold, True, False) for name in ("boxed", "boxed_symbolic")]


def verdict(name, response, gold):
    gold = gold if isinstance(gold, Gold) else Gold(answer=gold)
    return judge(name, response, gold).verdict


def test_there_are_a_few_hundred_over_all_judges():
    pairs = {(response, str(gold)) for _, response, gold, _, _ in ROWS}
    assert len(pairs) >= 450
    assert len({(name, response, str(gold)) for name, response, gold, _, _ in ROWS}) == len(ROWS)
    assert {row[0] for row in ROWS} == set(JUDGES)
    for wanted in (True, False):
        assert min(Counter(row[0] for row in ROWS if row[3] == wanted).values()) >= 18


@pytest.mark.parametrize(("name", "response", "gold", "truth", "seen"), ROWS, ids=ascii)
def test_verdict(name, response, gold, truth, seen):
    assert (verdict(name, response, gold) == "right") == seen


@pytest.mark.parametrize("name", JUDGES)
def test_no_wrong_answer_is_paid_and_few_right_ones_are_missed(name):
    rows = [row for row in ROWS if row[0] == name]
    paid = [row for row in rows if not row[3] and verdict(*row[:3]) == "right"]
    missed = [row for row in rows if row[3] and verdict(*row[:3]) != "right"]
    num_wrong = sum(not row[3] for row in rows)
    print(
        f"{name}: {len(paid)} of {num_wrong} wrong answers paid,"
        f" {len(missed)} of {len(rows) - num_wrong} right answers missed"
    )
    assert paid == []
    assert len(missed) == MISSED[name]
