r"""Decides by math-verify and a second, numeric check if two answers are mathematically equal.

math-verify alone pays wrong answers (tests in `tests/unit/rewards/test_symbolic.py`): it drops
units and lower-cases symbols, treats `(1,2)` like `[1,2)`, compares decimals after rounding to
six places and constants after chopping everything below 1e-15, calls two equations without real
solutions equal. So it is asked about single values only:

1. Structures, units and names are compared as for an exact match (`normalise`). The rest are pairs
   of values, and two numbers in digits are never asked about.
2. Text is not mathematics: words, choices, bases (`52_8`), ranges (`10-15`), times (`5:30`),
   symbols that differ in case. Neither are answers that only restate the problem: a sum, integral,
   limit or product sign must stand in the gold answer too.
3. `math_verify.parse` must read both completely, and `math_verify.verify` must agree.
4. The difference must also vanish at fixed points, in 50 digits and relative to its size; for
   equations and inequalities the two sides must be in a constant ratio there.

sympy may run for ever or end the process by memory: run it where it can be ended. math-verify's
own timeouts are alarms, which work in a main thread only; they are off.
"""

import logging
import re
from fractions import Fraction
from functools import cache
from typing import Any

from tinylora_rl.rewards.answer_structure import nesting
from tinylora_rl.rewards.normalise import Value, agree, same_answer, same_value, value_of

NUM_DIGITS = 50  # of the numeric check
MAX_NESTING = 10  # the parser takes seconds beyond
_CLOSE = 10**-30  # relative difference that counts as none
# Values for the symbols, in order of name: no simple relation holds between them by chance.
_POINTS = (
    ("1.3717", "0.6143", "2.2391", "0.8837", "1.7153", "3.1237", "0.4561", "2.7719"),
    ("-0.7331", "1.9127", "-1.4159", "2.6531", "-0.2917", "0.5813", "-3.3391", "1.1273"),
    ("2.8459", "-1.1917", "0.3769", "-2.0873", "4.1131", "-0.6637", "1.5413", "-0.9521"),
)

_WORD = re.compile(r"(?<![A-Za-z\\])[A-Za-z]{3,}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_ONLY_LETTERS = re.compile(r"[\sA-Za-z]*")
_BASE = re.compile(r"[0-9]\s?_|_\{?\s?(?:10|2|8|16|two|ten)\}?\s?$")
_RANGE = re.compile(r"\s*-?[0-9.,]+\s?-\s?[0-9.,]+\s*")
_NOT_A_VALUE = re.compile(
    r"[:?;'\"#&]|[-+] ?[-+]|\\(?:circ|text|begin|ldots|cdots|dots|approx|pm|mp)(?![A-Za-z])"
)
_RELATION = re.compile(r"[=<>]|\\[lgn]e(?![A-Za-z])")
_UNDONE = re.compile(
    r"\\(int|iint|oint|sum|prod|lim|det|gcd|lcm|max|min|mod|bmod|pmod|bigcup|bigcap|frac\{d\w*\})"
)
_MIXED = re.compile(r"[0-9] ?\\frac\{ ?[0-9]+ ?\}\{ ?[0-9]+ ?\}")  # would be read as a product
_TOWER = re.compile(
    r"\^ ?\{[^{}]{0,80}[0-9)}] ?\^|\^\{?-?[0-9]{5,}|[0-9]{5,}\s?!|!\s?!|\)\s?!\s?\^"
)


def equivalent(answer: str, gold: str, tolerance: float | None, unordered: bool) -> bool:
    """Returns True when the answers are proved equal; see the module. May never return."""

    def same(one: str, other: str) -> bool:
        values = value_of(one), value_of(other)
        if same_value(*values, tolerance):
            return True
        try:
            return _equal_values(*values, tolerance)
        except MemoryError:  # the process's limit: its caller decides
            raise
        except Exception:
            # sympy raises a dozen kinds of errors on what it cannot evaluate; then nothing is
            # proved. math-verify treats them alike.
            return False

    return same_answer(answer, gold, unordered, same)


def _equal_values(answer: Value, gold: Value, tolerance: float | None) -> bool:
    if isinstance(answer.content, Fraction) and isinstance(gold.content, Fraction):
        return False  # compared already
    texts = _as_relations(answer, gold)
    if not agree(answer, gold):
        return False
    if not _is_mathematics(*texts):
        return False
    parsed = _parsed(texts[0]), _parsed(texts[1])
    if None in parsed:
        return False
    one, other = parsed
    if tolerance is not None and one.is_number and other.is_number:
        return _within(one, other, tolerance)
    if not _agree_at_points(one, other):
        return False
    # Of relations, a constant ratio of their sides says enough; math-verify would solve them.
    return isinstance(one, _relational()) or _verify(other, one)


def _as_relations(answer: Value, gold: Value) -> tuple[str, str]:
    """Returns the two texts; a name is part of it where the other one is an equation: `y=2x`."""
    if (answer.name is None) == (gold.name is None):
        return answer.latex, gold.latex
    texts = answer.latex, gold.latex
    if not any("=" in value.latex for value in (answer, gold) if value.name is None):
        return texts
    return (answer.name or "") + answer.latex, (gold.name or "") + gold.latex


def _is_mathematics(answer: str, gold: str) -> bool:
    if not all(_is_plain(text) for text in (answer, gold)):
        return False
    texts = [_COMMAND.sub(" ", text) for text in (answer, gold)]
    letters = {char for text in texts for char in text if char.isalpha()}
    if len({char.lower() for char in letters}) != len(letters):
        return False  # n and N would become one symbol
    return set(_UNDONE.findall(answer)) <= set(_UNDONE.findall(gold))


def _is_plain(text: str) -> bool:
    """Returns True for a text with one meaning as a value, an equation or an inequality."""
    if _ONLY_LETTERS.fullmatch(text) or _RANGE.fullmatch(text):
        return False
    refused = (_NOT_A_VALUE, _BASE, _MIXED, _TOWER)
    if _WORD.search(_COMMAND.sub(" ", text)) or any(pattern.search(text) for pattern in refused):
        return False
    depth = nesting(text)
    return depth is not None and depth <= MAX_NESTING and len(_RELATION.findall(text)) <= 1


@cache
def _math_verify() -> Any:
    """Returns the library, quiet about the timeouts that are ours."""
    import math_verify

    for name in ("math_verify.parser", "math_verify.grader"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return math_verify


def _relational() -> Any:
    from sympy.core.relational import Relational

    return Relational


@cache
def _config() -> Any:
    from latex2sympy2_extended import NormalizationConfig

    normalization = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=False, boxed="none"
    )
    return _math_verify().LatexExtractionConfig(
        boxed_match_priority=-1, normalization_config=normalization
    )


def _parsed(latex: str) -> Any:
    """Returns a sympy expression or relation with exact numbers, or None."""
    import sympy

    expression: Any
    (expression,) = _math_verify().parse(
        f"${latex}$",
        extraction_config=[_config()],
        fallback_mode="no_fallback",
        parsing_timeout=None,
    ) or (None,)
    if not isinstance(expression, (sympy.Expr, _relational())):
        return None
    return expression.replace(
        lambda part: isinstance(part, sympy.Float), lambda part: sympy.Rational(str(part))
    )


def _verify(gold: Any, answer: Any) -> bool:
    return _math_verify().verify(gold, answer, timeout_seconds=None)


def _within(one: Any, other: Any, tolerance: float) -> bool:
    difference = (one - other).evalf(NUM_DIGITS)
    return bool(difference.is_real) and abs(difference) <= Fraction(repr(tolerance))


def _agree_at_points(one: Any, other: Any) -> bool:
    """Returns True when the expressions are equal, or the relations equivalent, at every point."""
    import sympy

    relational = _relational()
    if isinstance(one, relational) != isinstance(other, relational):
        return False
    symbols = sorted(one.free_symbols | other.free_symbols, key=lambda symbol: symbol.name)
    if len(symbols) > len(_POINTS[0]):
        return False
    points = [
        {symbol: sympy.Rational(value) for symbol, value in zip(symbols, point, strict=False)}
        for point in (_POINTS if symbols else _POINTS[:1])
    ]
    if not isinstance(one, relational):
        return all(_close(_at(one, point), _at(other, point)) for point in points)
    # Of true statements, like `2+3=5`, any two are equivalent.
    return bool(one.free_symbols and other.free_symbols) and _same_direction(one, other, points)


def _same_direction(one: Any, other: Any, points: list[dict]) -> bool:
    import sympy

    flipped = {
        sympy.Gt: sympy.Lt, sympy.Lt: sympy.Gt, sympy.Ge: sympy.Le, sympy.Le: sympy.Ge,
    }  # fmt: skip
    sides = [relation.lhs - relation.rhs for relation in (one, other)]
    values = [[_at(side, point) for side in sides] for point in points]
    if any(value in (None, 0) for pair in values for value in pair):
        return False
    ratios = [pair[0] / pair[1] for pair in values]
    if not all(_close(ratio, ratios[0]) for ratio in ratios):
        return False
    if type(one) is type(other) and isinstance(one, sympy.Eq | sympy.Ne):
        return True
    sign = ratios[0].is_positive
    return type(other) is (type(one) if sign else flipped.get(type(one)))


def _at(expression: Any, point: dict) -> Any:
    """Returns the value in `NUM_DIGITS` digits; None where there is none."""
    value = expression.subs(point).evalf(NUM_DIGITS)
    return value if value.is_number and value.is_finite else None


def _close(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return False
    return bool(abs(one - other) <= _CLOSE * max(abs(one), abs(other)))
