r"""Gold answers as the published files state them: text -> what a judge compares with."""

import re
from decimal import Decimal
from typing import Any

from tinylora_rl.errors import ConfigError

_HASH = re.compile(r"#### (-?[0-9][0-9.,]*)\s*$")
_DELIMITER = re.compile(r"(?<!\\)\$")


def after_hashes(solution: str, place: str) -> str:
    """Returns the number of the last line `#### N`, commas removed."""
    found = _HASH.search(solution)
    if found is None:
        raise ConfigError(f"{place}: the answer does not end in '#### N'; fix or drop that row")
    return found[1].replace(",", "")


def last_boxed(solution: str, place: str) -> str:
    r"""Returns the content of the last `\boxed{...}`, whose braces are balanced."""
    start = solution.rfind(r"\boxed{")
    if start < 0:
        raise ConfigError(rf"{place}: no \boxed{{}} in the solution; fix or drop that row")
    start += len(r"\boxed{")
    depth = 1
    position = start
    while position < len(solution):
        character = solution[position]
        if character == "\\":
            position += 2  # an escaped brace does not nest
            continue
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            return solution[start:position].strip()
        position += 1
    raise ConfigError(rf"{place}: the last \boxed{{ is never closed; fix or drop that row")


def without_delimiters(answer: str) -> str:
    r"""Returns LaTeX without the `$` around formulas; `\$`, the currency, stays.

    All of them, not the outer pair alone: `$x=0$ or $x=2$` would else come out unbalanced.
    """
    return _DELIMITER.sub("", answer).strip()


def shortest_number(value: Any) -> str | None:
    """Returns 27.0 as "27" and 0.5 as "0.5", every digit kept; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        return None
    return str(int(number)) if number == int(number) else format(number.normalize(), "f")


def of_worked(text: str, place: str) -> str:
    r"""Returns the answer that a worked text ends with: after `####`, in `\boxed{}`, or all of it.

    Reads GSM8K's and MATH's solutions, and a plain answer as it stands.
    """
    if "####" in text:
        return text.rpartition("####")[2].strip()
    return last_boxed(text, place) if r"\boxed{" in text else text.strip()


def tolerance(error: str | None, place: str) -> float | None:
    """Returns OlympiadBench's `error`, an absolute tolerance, or None where there is none.

    Its own judge also takes one tolerance for each answer ("0.01,0.1"); none of the 675 rows has
    such a list (one row has "1e-1", the others nothing), so it is refused.
    """
    if error is None:
        return None
    try:
        value = float(error)
    except (TypeError, ValueError):
        value = -1.0
    if not 0 < value < float("inf"):
        raise ConfigError(
            f"{place}: error={error!r} is not one positive number; fix or drop that row"
        )
    return value
