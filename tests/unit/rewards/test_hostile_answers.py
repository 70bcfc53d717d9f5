import pytest

from tests.unit.rewards.test_extract import cpu_seconds
from tinylora_rl.rewards.normalise import exact_match

HOSTILE = [
    "(",
    ")",
    "[",
    "{",
    "}",
    r"\{",
    r"\}",
    "[[",
    r"\frac",
    r"\frac{",
    r"\frac1",
    r"\sqrt{",
    "1,",
]
HOSTILE += [
    "1 ",
    "1",
    "$",
    r"\$",
    r"\text{",
    r"\text{cm}",
    "cm ",
    r"\left(",
    "^{",
    "_",
    r"\cup",
    "=",
]
HOSTILE += [
    r"\begin{matrix}",
    r"\end{matrix}",
    r"\begin{array}{",
    "&",
    r"\\",
    r"\,",
    "x=",
    "1/",
    "-",
]
HOSTILE += [
    " and ",
    "%",
    r"^\circ",
    "1,000,",
    "\u221a(",
    "~",
    "1e",
    "1.",
    r"\pm",
    r"\pm1,",
    "(1,",
    "\u00b2",
]


@pytest.mark.parametrize("num_chars", [1000, 100_000])
@pytest.mark.parametrize("unit", HOSTILE, ids=ascii)
def test_hostile_answers_are_graded_in_milliseconds(unit, num_chars):
    """Deep nesting is followed four levels; the cap is where texts are only compared."""
    text = unit * (num_chars // len(unit))
    for gold in ("5", text, text[1:], text[:-1] + "1"):
        for unordered in (False, True):
            assert cpu_seconds(exact_match, text, gold, None, unordered) < 0.05
