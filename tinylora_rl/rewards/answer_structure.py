r"""Parses an answer into a value, or a list, tuple, interval, set, union or matrix of values.

    -2, 1      list        (3, \pi/2)  tuple       [0,1)      interval, brackets significant
    \{1,2\}    set         (0,9) \cup (9,36)       \begin{pmatrix} 1 \\ 2 \end{pmatrix}

Brackets around a text without a comma are no structure: `(5)` and `f(x)` are values. Nesting is
followed `MAX_DEPTH` levels deep, which is a list of tuples of sets; deeper levels are values.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

MAX_DEPTH = 4

LIST, UNION, SET = "list", "union", r"\{\}"


@dataclass(frozen=True)
class Structure:
    """Holds the items of a LIST, UNION or SET, of a pair of brackets, or of a matrix.

    `kind` is one of these, the two brackets, or the numbers of columns of the matrix's rows.
    """

    kind: str
    items: tuple["Structure | str", ...]


_TOKEN = re.compile(
    r"\\begin\{[a-z]*\}|\\end\{[a-z]*\}|\\[{}]|[{}()\[\]]|,"
    r"|\\cup(?![A-Za-z])|(?:\\(?:text|mathrm|mbox)\s?\{\s*(?:and|or)\s*\}| (?:and|or) )|\\."
)
_DIGIT_GROUPS = re.compile(r"(?<![0-9,.])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9]|,[0-9])")
_PAIRS = {"()", "[]", "(]", "[)", SET}
_MATRIX_OPEN, _MATRIX_CLOSE = r"\begin{matrix}", r"\end{matrix}"


def structure_of(text: str, commas_separate: bool = False, depth: int = 0) -> Structure | str:
    """Returns the structure, with its values as text; the text itself if it is a single value.

    A comma inside a group of three digits is part of a number at the top level, unless
    `commas_separate`: then `100,200` are two answers. Within brackets commas always separate.
    """
    text = text.strip()
    if depth == MAX_DEPTH:
        return text
    cups, commas = _separators(text, commas_separate)
    if commas:
        return _structure(LIST, _pieces(text, commas), depth, commas_separate)
    if cups:
        return _structure(UNION, _pieces(text, cups), depth, commas_separate)
    return _bracketed(text, depth)


def nesting(text: str) -> int | None:
    """Returns the largest number of open brackets, None if they do not balance."""
    levels = [0, *(level for _, level in _levels(text))]
    return max(levels) if levels[-1] == 0 and min(levels) == 0 else None


def _bracketed(text: str, depth: int) -> Structure | str:
    if text.startswith(_MATRIX_OPEN) and text.endswith(_MATRIX_CLOSE):
        return _matrix(text[len(_MATRIX_OPEN) : -len(_MATRIX_CLOSE)], text, depth)
    opening = text[:2] if text.startswith("\\{") else text[:1]
    closing = text[-2:] if text.endswith("\\}") else text[-1:]
    if opening == "{" and closing == "}" and _closes_at_end(text):
        return structure_of(text[1:-1], True, depth + 1)  # LaTeX's own braces do not show
    if opening + closing not in _PAIRS or not _closes_at_end(text):
        return text
    inside = text[len(opening) : -len(closing)]
    _, commas = _separators(inside, True)
    if not commas and opening + closing != SET:
        return text
    return _structure(opening + closing, _pieces(inside, commas), depth)


def _matrix(inside: str, text: str, depth: int) -> Structure | str:
    if "\\begin" in inside:
        return text
    rows = [row.split("&") for row in inside.strip().removesuffix("\\\\").split("\\\\")]
    kind = "matrix" + ",".join(str(len(row)) for row in rows)
    return _structure(kind, [cell for row in rows for cell in row], depth)


def _structure(kind: str, pieces: list[str], depth: int, commas_separate: bool = True) -> Structure:
    return Structure(
        kind, tuple(structure_of(piece, commas_separate, depth + 1) for piece in pieces)
    )


def _pieces(text: str, separators: list[tuple[int, int]]) -> list[str]:
    starts = [0, *(end for _, end in separators)]
    ends = [*(start for start, _ in separators), len(text)]
    pieces = [text[start:end].strip() for start, end in zip(starts, ends, strict=True)]
    # `1, 2, and 3` has one empty piece between `,` and `and`.
    return [piece for i, piece in enumerate(pieces) if piece or i in (0, len(pieces) - 1)]


def _separators(
    text: str, commas_separate: bool
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Returns the spans of the unions and of the commas outside all brackets."""
    grouped: set[int] = set()
    if not commas_separate:
        for number in _DIGIT_GROUPS.finditer(text):
            grouped.update(range(*number.span()))
    cups, commas = [], []
    for token, level in _levels(text):
        if level == 0 and token.group().startswith("\\cup"):
            cups.append(token.span())
        elif level == 0 and _separates(token.group()) and token.start() not in grouped:
            commas.append(token.span())
    return cups, commas


def _separates(token: str) -> bool:
    return token == "," or re.search(r"(?:and|or)\s*\}?\s*$", token) is not None


def _closes_at_end(text: str) -> bool:
    """Returns True if the bracket that opens the text is the one that ends it."""
    levels = [(token.end(), level) for token, level in _levels(text)]
    first_closed = next((end for end, level in levels if level <= 0), None)
    return first_closed == len(text)


def _levels(text: str) -> Iterator[tuple[re.Match[str], int]]:
    """Yields the tokens with the number of brackets open behind each."""
    level = 0
    for token in _TOKEN.finditer(text):
        sign = token.group()
        if sign in ("(", "[", "{", "\\{") or sign.startswith("\\begin"):
            level += 1
        elif sign in (")", "]", "}", "\\}") or sign.startswith("\\end"):
            level -= 1
        yield token, level
