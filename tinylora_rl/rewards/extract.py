r"""Finds the answer in a response: named extractors, response -> answer text or None.

All of them read the whole response. verl's GSM8K reward looks at the last 300 characters only; a
cut through a number or before the `####` changes the verdict without a trace.

They return the answer as written; `normalise` compares it. A number that is part of an expression
is returned with it: `1/2`, `5:30`, `10 - 15`, `3e4`, `1,2,3`, `5\pi` come
back whole, so that a gold answer of `1`, `30`, `15`, `4`, `123` or `5` is not found inside them.
"""

import re
from collections import deque
from collections.abc import Callable

Extractor = Callable[[str], str | None]

MINUS = "-\u2212\u2013\ufe63\uff0d"  # hyphen, minus, en dash, small and full-width hyphen-minus
_SUPERSCRIPT_OR_FRACTION = "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2150-\u215e"

# ASCII digits only: Python's \d also takes Arabic, Devanagari, full-width digits.
_SEPARATOR = r"(?:,|\.|\{,\}|,?\\[,!;]|[\u00a0\u2009\u202f])"
_DIGITS = rf"[0-9]+(?:{_SEPARATOR}[0-9]+|[ ][0-9]{{3}}(?![0-9]))*"
# A leading dot is a decimal point in ` .5` and neither in `Rs.500` nor in `...5`.
_NUMBER = rf"(?:(?<![0-9A-Za-z.])\.)?{_DIGITS}"
_BRACED = r"\{(?:[^{}]|\{[^{}]{0,40}\}){0,40}+\}"
_FRACTION = rf"\\[dtc]?frac\s?{_BRACED}\s?{_BRACED}"
_RADICAL = r"\\sqrt ?(?:\[[0-9]{1,3}\] ?)?"
_ROOT_OF = rf"(?:{_RADICAL}(?:\{{ ?{_NUMBER}\}}?|{_NUMBER})|\u221a{_NUMBER})"
_OPERAND = rf"[-+]?\\?\$?(?:{_NUMBER}|{_FRACTION}|{_ROOT_OF})"
_OPERATOR = rf"(?:\*?[{MINUS}+/^*\u00d7\u00b7\u00f7]|\\(?:times|cdot|div)(?![A-Za-z]))"
# 5\pi, 5\sqrt{2}, 5x; `5 x 3` keeps its `x` apart
_FACTOR = (
    rf"(?: ?{_ROOT_OF}| ?(?:{_RADICAL}\{{?|\u221a)| ?\\pi(?![A-Za-z])|\u03c0|[xyz](?![A-Za-z]))"
)
# What makes the number before it part of something else.
_CONTINUATION = (
    rf"(?:(?:{_OPERATOR}|[ \t]+{_OPERATOR}[ \t]+)(?:\{{{_OPERAND}\}}?|{_OPERAND})"
    rf"|[:eE]{_OPERAND}"
    r"|[ \t]+[0-9]+/[0-9]+"  # the mixed number 1 1/2
    rf"|{_FRACTION}"
    rf"|[{_SUPERSCRIPT_OR_FRACTION}]+"
    rf"|{_FACTOR}"
    r"|[kKMB](?![A-Za-z]))"  # 12k is not 12
)
# Possessive: nothing follows that could ask for less, and long chains cost no stack.
_EXPRESSION = rf"(?:{_NUMBER}|{_FRACTION}|{_ROOT_OF}){_CONTINUATION}*+"

_LAST_NUMBER = re.compile(_EXPRESSION)
_MARKED_NUMBER = re.compile(r"####(?!#)[^0-9A-Za-z\n]{0,8}[0-9]")
_STRICT_ANSWER = re.compile(rf"#### (-?{_EXPRESSION})")
_MAX_FRACTION_CHARS = 3500  # of `_FRACTION`: two groups of at most 40 * 42 + 2
_MAX_LINES_BACK = 4
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BOXED_OPEN = re.compile(r"\\boxed\s*\{")


def strict(response: str) -> str | None:
    """Returns the number of the last `#### N`, or None.

    The format is GSM8K's and verl's: four hashes, one space, an optional `-`, digits. Text may
    follow. `#### $72`, `####72` and `#### **72**` are not in the format: they give None, also after
    a marker that was (verl would go back to it). Headings such as `#### Step 2` are passed over.
    """
    marked = _last(_MARKED_NUMBER, response)
    if marked is None:
        return None
    answer = _STRICT_ANSWER.match(response, marked.start())
    return answer.group(1) if answer else None


def flexible(response: str) -> str | None:
    """Returns the last number of the response, in any format, or None.

    A minus counts as a sign unless it joins (`COVID-19`) or is a list bullet.
    """
    number = _last(_LAST_NUMBER, response, _safe_start(response))
    if number is None:
        return None
    return ("-" if _is_negated(response, number.start()) else "") + number.group()


def boxed(response: str) -> str | None:
    r"""Returns the content of the last `\boxed{...}`; None if there is none or it never closes."""
    start = _BOXED_OPEN.match(response, max(response.rfind(r"\boxed"), 0))
    if start is None:
        return None
    depth = 1
    for brace in _BRACE.finditer(response, start.end()):
        if brace.group() == "{":
            depth += 1
        elif brace.group() == "}":  # `\{` and `\}` are matched as escapes and do not count
            depth -= 1
            if depth == 0:
                return response[start.end() : brace.start()]
    return None


EXTRACTORS: dict[str, Extractor] = {"strict": strict, "flexible": flexible, "boxed": boxed}


def _last(pattern: re.Pattern[str], text: str, start: int = 0) -> re.Match[str] | None:
    matches = deque(pattern.finditer(text, start), maxlen=1)
    return matches[0] if matches else None


def _safe_start(response: str) -> int:
    """Returns a place from which a scan finds the same last number as from the beginning.

    The start of the line of the last digit, which is part of some number: if no number reaches over
    the line's beginning. One can only inside a fraction, where the newline follows `frac`, stands
    between its two groups, or stands in a group, which is then open.
    """
    last_digit = max(response.rfind(digit) for digit in "0123456789")
    line_end = last_digit
    for _ in range(_MAX_LINES_BACK):
        newline = response.rfind("\n", 0, max(line_end, 0))
        if newline < 0:
            return 0
        before, after = response[max(newline - 5, 0) : newline], response[newline + 1 : newline + 2]
        is_between_groups = before.endswith("}") and after == "{"
        if not (before.endswith("frac") or is_between_groups or _is_in_group(response, newline)):
            return newline + 1
        line_end = newline
    return 0


def _is_in_group(response: str, place: int) -> bool:
    """Returns True if a `{` that is open at `place` could belong to a fraction there."""
    depth = 0
    for brace in reversed(response[max(place - _MAX_FRACTION_CHARS, 0) : place].split("{")[1:]):
        depth += brace.count("}") - 1
        if depth < 0:
            return True
    return False


def _is_negated(response: str, start: int) -> bool:
    line = response[max(start - 32, 0) : start].rpartition("\n")[2]
    line = line.rstrip("$\\\u20ac\u00a3\u00a5\u20b9")
    before = line.rstrip(" \t")
    if not before or before[-1] not in MINUS:
        return False
    if line == before:  # `-5`
        previous = before[-2:-1]
        return not (previous.isalnum() or (previous and previous in ")]}"))
    return before[:-1].rstrip(" \t")[-1:] in ("=", ":", "(", "\u2248")  # `= - 5`
