r"""When two answers are the same: one canonical form, compared exactly.

Numbers become exact fractions. Equal are
    1,234  1\,234  1{,}234  1234           digit groups, if they are groups of three
    72  $72  \$72  72$  072  72.  72.00    currency sign in front, leading zeros, trailing dot
    5  +5;  -5 with any of the signs in `MINUS`;  .50  0.5;  50  50%  50\%
    \frac{1}{2}  1/2  0.5
Anything else is LaTeX, compared as text after
    \dfrac \tfrac \cfrac -> \frac;  \frac12 -> \frac{1}{2};  \text{a} \mathrm{a} ... -> a
    \left \right $ \$ degrees -> nothing;  a final dot -> nothing
    spaces -> nothing, except where they hold letters or digits apart: `1 1/2` is not `11/2`

Not equal, on purpose: a number and the same number with a unit; 50% and 0.5; `x=5` and `5`; `10,5`
and `105`; `48, 384` and `48,384`; upper and lower case. A wrong answer that is paid does more harm
in training than a right one that is missed. No comparison goes through a float or `eval`.
"""

import re
from fractions import Fraction

from tinylora_rl.rewards.extract import MINUS

MAX_ANSWER_CHARS = 1000  # above it an answer is compared as it stands
MAX_NUMBER_CHARS = 128

_CURRENCY = "$\u20ac\u00a3\u00a5\u20b9"
_DECIMAL = re.compile(
    rf"(?P<sign>[-+]?)\s*[{_CURRENCY}]?\s*"
    r"(?=\.?[0-9])(?P<whole>[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]*)(?:\.(?P<decimals>[0-9]*))?"
    r"\s*(?:\\?%)?\.?"
)
_RATIO = re.compile(
    r"(?P<sign>[-+]?)\s*(?:(?P<slash_top>[0-9]+)\s*/\s*(?P<slash_bottom>[0-9]+)"
    r"|\\frac\{\s*(?P<top>-?[0-9]+)\s*\}\s*\{\s*(?P<bottom>[0-9]+)\s*\})"
)

_TO_HYPHEN = str.maketrans(dict.fromkeys(MINUS, "-"))
_THOUSANDS = re.compile(
    r"(?<=[0-9])(?:\{,\}|,\\!|,?\\[,;!]|[\u00a0\u2009\u202f])(?=[0-9]{3}(?![0-9]))"
)
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|sf)?|math(?:rm|bf|it|sf)|mbox)\s*\{([^{}]*)\}")
_SIZING = re.compile(r"\\(?:left|right)\.?(?![A-Za-z])")
_ANY_FRAC = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_FRAC_TOP = re.compile(r"\\frac\s*([0-9A-Za-z])")
_FRAC_BOTTOM = re.compile(r"\\frac\s*(\{[^{}]*\})\s*([0-9A-Za-z])")
_DEGREES = re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})|\\degrees?(?![A-Za-z])|\u00b0")
_LATEX_SPACE = re.compile(r"(?<!\\)(?:\\[,;:! ]|\\q?quad(?![A-Za-z])|~)|\\?\$")
_LOOSE_SPACE = re.compile(r"(?<![0-9A-Za-z])\s+|\s+(?![0-9A-Za-z])|(?<=[0-9])\s+(?=[A-Za-z])")


def exact_match(answer: str, gold: str) -> bool:
    """True when both have the same canonical form and that form is not empty."""
    canonical_answer = canonical(answer)
    return canonical_answer != "" and canonical_answer == canonical(gold)


def canonical(text: str) -> Fraction | str:
    """Return the exact value if the text is a number, else its normalised LaTeX."""
    text = text.strip()
    if len(text) > MAX_ANSWER_CHARS:
        return text
    latex = _unify_latex(text)
    # Before spaces go: `48, 384` is a list and `48,384` a number.
    number = parse_number(latex)
    if number is not None:
        return number
    return _LOOSE_SPACE.sub("", re.sub(r"\s+", " ", latex)).removesuffix(".")


def parse_number(text: str) -> Fraction | None:
    """Return the exact value of a decimal or a ratio of integers, None for anything else."""
    text = text.strip().translate(_TO_HYPHEN)
    if len(text) > MAX_NUMBER_CHARS:
        return None
    if decimal := _DECIMAL.fullmatch(text):
        whole, decimals = decimal["whole"].replace(",", ""), decimal["decimals"] or ""
        value = Fraction(int(whole + decimals), 10 ** len(decimals))
    elif ratio := _RATIO.fullmatch(text):
        bottom = int(ratio["slash_bottom"] or ratio["bottom"])
        if bottom == 0:
            return None
        value = Fraction(int(ratio["slash_top"] or ratio["top"]), bottom)
        decimal = ratio
    else:
        return None
    return -value if decimal["sign"] == "-" else value


def _unify_latex(text: str) -> str:
    text = _THOUSANDS.sub(",", text.translate(_TO_HYPHEN))
    text = _SIZING.sub(" ", _DEGREES.sub(" ", text))
    text = _ANY_FRAC.sub(r"\\frac", text)
    text = _FRAC_TOP.sub(r"\\frac{\1}", text)
    text = _FRAC_BOTTOM.sub(r"\\frac\1{\2}", text)
    text = _TEXT.sub(r"\1", text)
    # A dollar becomes a gap: `$48$,$384$` must not turn into the number 48,384.
    return _LATEX_SPACE.sub(" ", text).strip()
