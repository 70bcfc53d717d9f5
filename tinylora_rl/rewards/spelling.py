r"""Rewrites the several LaTeX and Unicode spellings of a sign as one. Text in, text out.

Nothing here joins two texts: a command that is dropped leaves a space, and spaces go last, in
`without_spaces`, which keeps those between letters or digits (`1 1/2` is not `11/2`).
Every pattern takes linear time on any input: quantifiers are bounded or cannot overlap.
"""

import re
from collections.abc import Callable

from tinylora_rl.rewards.extract import MINUS

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys(MINUS, "-"),
        "\u00d7": r"\times ",
        "\u00b7": r"\cdot ",
        "\u22c5": r"\cdot ",
        "\u00f7": r"\div ",
        "\u03c0": r"\pi ",
        "\u221e": r"\infty ",
        "\u222a": r"\cup ",
        "\u2264": r"\le ",
        "\u2265": r"\ge ",
        "\u2260": r"\ne ",
        "\u2208": r"\in ",
        "\u00b1": r"\pm ",
        "\u00b0": r"^\circ ",
        "\u2032": "'",
    }
)
_THOUSANDS = re.compile(
    r"(?<=[0-9])(?:\{,\}|,\\!\s?|\\!|,?\\[,;]|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))"
)
_ROOT_SIGN = re.compile(r"\u221a\s?(?:([0-9]{1,40})|\(([^()]{0,80})\))")
_SIZING = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?)(?:\.|(?![A-Za-z]))")
_STYLE = re.compile(r"\\(?:displaystyle|limits|nolimits)(?![A-Za-z])")
_DEGREES = re.compile(
    r"\^\s?(?:\\circ(?![A-Za-z])|\{\s?\\circ\s?\})|\\(?:degrees?|circ)(?![A-Za-z])"
)
_ANY_FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_FRAC_TOP = re.compile(r"\\frac(?: ?([0-9])| ([A-Za-z]))")
_FRAC_BOTTOM = re.compile(r"\\frac ?(\{[^{}]*\}) ?([0-9A-Za-z])")
_BARE_ROOT = re.compile(r"\\sqrt(?: ?([0-9])| ([A-Za-z]))")
_SINGLE_SCRIPT = re.compile(r"([\^_]) ?\{ ?([0-9A-Za-z]) ?\}")
_SCRIPT_SPACE = re.compile(r"([\^_]) ([0-9A-Za-z{\\])")
_SYNONYMS = {
    "leq": "le", "leqslant": "le", "geq": "ge", "geqslant": "ge", "neq": "ne", "lbrace": "{",
    "rbrace": "}", "lbrack": "[", "rbrack": "]", "lt": "<", "gt": ">",
    "land": "wedge", "lor": "vee", "to": "rightarrow", "ast": "*", "mid": "|", "vert": "|",
}  # fmt: skip
_SYNONYM = re.compile(
    r"\\(" + "|".join(sorted(_SYNONYMS, key=len, reverse=True)) + r")(?![A-Za-z])"
)
_MATRIX = re.compile(r"\\(begin|end)\s?\{[pb]matrix\}")
_ARRAY = re.compile(
    r"(?:\\\[|\[|\()\s?\\begin\s?\{array\}\s?\{[^{}]{0,40}\}([^\[\]()]{0,1000}?)\\end\s?\{array\}\s?[\])]"
)
_SPACE = re.compile(r"(?<!\\)(?:\\[,;:! ]|\\q?quad(?![A-Za-z])|~)")
_WRAPPED = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|normal)?|math(?:rm|bf|it|sf|normal)|mbox|operatorname)\s?\{([^{}]*)\}"
)
_LOOSE_SPACE = re.compile(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])|(?<=[0-9])\s+(?=[A-Za-z])")
_DOLLAR_AMOUNT = re.compile(r"\s*[-+]?\s?\$\s?[-+]?\s?\.?[0-9]")


def one_spelling(text: str) -> str:
    r"""Returns the text with one spelling per sign; `\text{...}` is still there, for the units.

    `$` are math delimiters and become spaces, so that `$48$,$384$` does not turn into 48,384; but
    an odd number of them with one in front of a digit is an amount, written `\$` from here on.
    """
    text = _delimiters(text.translate(_CHARACTERS))
    text = re.sub(r"\s+", " ", _THOUSANDS.sub(",", text))
    text = _ROOT_SIGN.sub(lambda root: rf"\sqrt{{{root[1] or root[2] or ''}}}", text)
    text = _STYLE.sub(" ", _SIZING.sub(" ", text))
    text = _DEGREES.sub(r"^\\circ ", text)
    text = _SYNONYM.sub(_synonym, _MATRIX.sub(r"\\\1{matrix}", text))
    text = _ARRAY.sub(r"\\begin{matrix}\1\\end{matrix}", text)
    text = re.sub(r" +", " ", _SPACE.sub(" ", text))
    text = _FRAC_TOP.sub(_braced("frac"), _ANY_FRAC.sub(r"\\frac", text))
    text = _FRAC_BOTTOM.sub(r"\\frac\1{\2}", text)
    text = _BARE_ROOT.sub(_braced("sqrt"), text)
    return _SINGLE_SCRIPT.sub(r"\1\2", _SCRIPT_SPACE.sub(r"\1\2", text)).strip()


def unwrapped(text: str) -> str:
    r"""Returns the text with `\text{a}`, `\mathrm{a}` and the like replaced by their content."""
    return _WRAPPED.sub(r"\1", text)


def without_spaces(text: str) -> str:
    """Returns the text without the spaces that have no meaning."""
    return _LOOSE_SPACE.sub("", re.sub(r"\s+", " ", text))


def _delimiters(text: str) -> str:
    bare = text.replace(r"\$", "")
    if bare.count("$") % 2 and _DOLLAR_AMOUNT.match(text) and r"\$" not in text[:4]:
        text = text.replace("$", r"\$", 1)
    return re.sub(r"(?<!\\)\$", " ", text)


def _synonym(command: re.Match[str]) -> str:
    plain = _SYNONYMS[command[1]]
    if plain in "[]<>|*":
        return plain
    return "\\" + plain + ("" if plain in "{}" else " ")


def _braced(command: str) -> Callable[[re.Match[str]], str]:
    return lambda found: rf"\{command}{{{found[1] or found[2]}}}"
