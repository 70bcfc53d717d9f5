r"""Compares two answers exactly, after bringing both into a canonical form.

An answer is a value or a structure of values (`answer_structure`). Structures must agree, and
values pair by pair. Equal values are
    numbers that are the same exact fraction (`numerals`): 1,234 1234; .50 0.5 1/2 \frac12;
        1\frac{1}{2} 1.5; 4.5e33 4.5 \times 10^{33}
    other LaTeX with the same text in one spelling (`spelling`), spaces aside
Ignored where one side has it; where both have it, it must be the same:
    a unit (`units`): `72`, `$72`, `72\text{ dollars}`, `72\%`, `72^\circ` all equal 72,
        but `72\text{ cm}` is not `72\text{ m}`, and no unit is converted
    the name of the value: `x=5`, `f(x)=2x`, `x \in [0,1]`
A set, and a gold answer that says `unordered`, is compared in any order, each item used once.

Not equal, on purpose: 50% and 0.5; `10,5` and `105`; `48, 384` and `48,384`; `(5)` and `5`; upper
and lower case; `(0,1)` and `[0,1]`; `\{1,2\}` and `1,2` unless unordered. A wrong answer that is
paid does more harm in training than a right one that is missed.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from tinylora_rl.rewards.answer_structure import LIST, SET, Structure, structure_of
from tinylora_rl.rewards.numerals import MAX_NUMBER_CHARS, parse_number
from tinylora_rl.rewards.spelling import one_spelling, unwrapped, without_spaces
from tinylora_rl.rewards.units import split_unit

__all__ = ["MAX_ANSWER_CHARS", "MAX_NUMBER_CHARS", "Value", "canonical", "exact_match"]
__all__ += ["parse_number", "same_answer", "value_of"]

MAX_UNORDERED = 50  # longer sets and lists are compared in the order they are written
MAX_ANSWER_CHARS = 1000  # a longer answer, or gold, is compared as it stands


@dataclass(frozen=True)
class Value:
    """Holds a single value, `name = latex unit`, and `content`, its number or its text."""

    content: Fraction | str
    latex: str
    unit: str | None = None
    name: str | None = None


Same = Callable[[str, str], bool]

_GREEK = "alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|lambda|mu|nu|xi|rho|sigma|tau"
_GREEK += "|phi|varphi|chi|psi|omega|Delta|Gamma|Lambda|Omega|Phi|Psi|Sigma|Theta"
_LETTER = rf"(?:[A-Za-z]|\\(?:{_GREEK})(?![A-Za-z])|\\(?:mathrm|text|mathbf)\{{\s?[A-Za-z]\s?\}})"
_NAME = re.compile(
    rf"\s*({_LETTER}(?:_(?:[0-9A-Za-z]|\{{[0-9A-Za-z ]{{1,12}}\}}))?'?"
    rf"(?:\s?\(\s?{_LETTER}\s?\))?\s?(?:=|\\in(?![A-Za-z])))(?![=<>])"
)
_CHOICE = re.compile(r"\(([A-Z])\)")
_PLUS = re.compile(r"^\+\s?")


def exact_match(
    answer: str, gold: str, tolerance: float | None = None, unordered: bool = False
) -> bool:
    """Returns True when both have the same canonical form and that form is not empty.

    Args:
        answer: as extracted.
        gold: as the benchmark states it.
        tolerance: numbers are also the same when they differ by no more; absolute, exact in the
            decimal digits of the float.
        unordered: both are comma-separated answers, in any order.
    """

    def same(one: str, other: str) -> bool:
        return same_value(value_of(one), value_of(other), tolerance)

    return same_answer(answer, gold, unordered, same)


def same_answer(answer: str, gold: str, unordered: bool, same: Same) -> bool:
    """Returns True when the structures agree and the values are `same` in pairs.

    `same` gets the values as text in one spelling.
    """
    if max(len(answer), len(gold)) > MAX_ANSWER_CHARS:
        return answer.strip() == gold.strip() != ""
    answer, gold = _final(answer), _final(gold)
    if not answer or not gold:
        return False
    if answer == gold and isinstance(structure_of(gold), Structure):
        return True
    if (r"\pm" in answer) != (r"\pm" in gold):
        return _same_in_any_order(_both_signs(answer), _both_signs(gold), same)
    if not unordered:
        return _same_structure(structure_of(answer), structure_of(gold), same)
    golds = _items(gold, commas_separate=True)
    # `2,500, 7,500` can be read as two answers or four.
    readings = [_items(answer, commas_separate=True), _items(answer, commas_separate=False)]
    return any(_same_in_any_order(items, golds, same) for items in readings)


def canonical(text: str) -> Fraction | str:
    """Returns the exact value if the text is a number, else its normalised LaTeX.

    Units and names are left out: two answers of the same canonical form may still differ in them.
    """
    if len(text) > MAX_ANSWER_CHARS:
        return text.strip()
    parsed = structure_of(_final(text))
    return value_of(parsed).content if isinstance(parsed, str) else _rendered(parsed)


@lru_cache(maxsize=1024)  # a set compares each of its values with each
def value_of(text: str) -> Value:
    """Returns name, content and unit of a single value in one spelling."""
    name = _NAME.match(text)
    latex, unit = split_unit(text[name.end() :] if name else text)
    latex = unwrapped(latex).strip()
    number = parse_number(latex)
    content = without_spaces(_PLUS.sub("", latex)).removesuffix(".")
    choice = _CHOICE.fullmatch(content)
    return Value(
        content=number if number is not None else choice[1] if choice else content,
        latex=latex,
        unit=unit,
        name=_plain_name(name) if name else None,
    )


def same_value(answer: Value, gold: Value, tolerance: float | None) -> bool:
    """Returns True when the contents are equal and neither name nor unit contradicts."""
    if not agree(answer, gold):
        return False
    if isinstance(answer.content, Fraction) and isinstance(gold.content, Fraction):
        margin = Fraction(repr(tolerance)) if tolerance is not None else 0
        return abs(answer.content - gold.content) <= margin
    return answer.content == gold.content != ""


def agree(answer: Value, gold: Value) -> bool:
    """Returns True when neither name nor unit is there twice and different."""
    return all(
        None in pair or pair[0] == pair[1]
        for pair in ((answer.name, gold.name), (answer.unit, gold.unit))
    )


def _final(text: str) -> str:
    return re.sub(r"\s*(?<!\\right)\.$", "", one_spelling(text.strip())).strip()


def _same_structure(answer: Structure | str, gold: Structure | str, same: Same) -> bool:
    if isinstance(answer, str) and isinstance(gold, str) and same(answer, gold):
        return True
    if isinstance(answer, str) or isinstance(gold, str):
        (name, answer), (gold_name, gold) = _unnamed(answer), _unnamed(gold)
        if name != gold_name and None not in (name, gold_name):
            return False
    if isinstance(answer, str) or isinstance(gold, str):
        return False
    if answer.kind != gold.kind:
        return False
    if answer.kind == SET:
        return _same_in_any_order(answer.items, gold.items, same)
    return len(answer.items) == len(gold.items) and all(
        _same_structure(one, other, same)
        for one, other in zip(answer.items, gold.items, strict=True)
    )


def _unnamed(answer: Structure | str) -> tuple[str | None, Structure | str]:
    r"""Splits `x \in [0,1]` into `x \in` and the interval."""
    name = _NAME.match(answer) if isinstance(answer, str) else None
    if name is None or not isinstance(answer, str):
        return None, answer
    return _plain_name(name), structure_of(answer[name.end() :], commas_separate=True)


def _plain_name(name: re.Match[str]) -> str:
    return without_spaces(unwrapped(name[1])).replace(" ", "")


def _same_in_any_order(
    answers: tuple[Structure | str, ...], golds: tuple[Structure | str, ...], same: Same
) -> bool:
    """Returns True if the items pair off: a search, as `same` is not transitive (units)."""
    if len(answers) != len(golds):
        return False
    if len(answers) > MAX_UNORDERED:
        return all(
            _same_structure(one, other, same) for one, other in zip(answers, golds, strict=True)
        )
    fits = [[_same_structure(answer, gold, same) for gold in golds] for answer in answers]
    taken_by: dict[int, int] = {}

    def place(answer: int, seen: set[int]) -> bool:
        for gold in range(len(golds)):
            if fits[answer][gold] and gold not in seen:
                seen.add(gold)
                if gold not in taken_by or place(taken_by[gold], seen):
                    taken_by[gold] = answer
                    return True
        return False

    return all(place(answer, set()) for answer in range(len(answers)))


def _items(text: str, commas_separate: bool) -> tuple[Structure | str, ...]:
    parsed = structure_of(text, commas_separate)
    if isinstance(parsed, Structure) and parsed.kind in (LIST, SET):
        return parsed.items
    return (parsed,)


def _both_signs(text: str) -> tuple[Structure | str, ...]:
    r"""Returns the items with `1 \pm \sqrt{2}` as two; a set stays apart from a list."""
    parsed = structure_of(text)
    is_set = isinstance(parsed, Structure) and parsed.kind == SET
    signed: list[Structure | str] = ["set"] if is_set else []
    for item in _items(text, commas_separate=False):
        if isinstance(item, str) and item.count(r"\pm") == 1:
            signed += [item.replace(r"\pm", sign) for sign in "+-"]
        else:
            signed.append(item)
    return tuple(signed)


def _rendered(structure: Structure | str) -> str:
    if isinstance(structure, str):
        return str(value_of(structure).content)
    return f"{structure.kind}:" + ";".join(f"({_rendered(item)})" for item in structure.items)
