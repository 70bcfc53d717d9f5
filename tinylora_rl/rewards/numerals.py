r"""Parses numbers in digits into exact fractions: no comparison goes through a float or `eval`.

    1,234  72  072  72.  72.00  +5  -5  .50        digit groups only if they are groups of three
    1/2  \frac{1}{2}  \frac{-14}{3}  -1./3          ratios of integers or decimals
    1\frac{1}{2}  1 1/2                            mixed numbers, if the fraction is below one
    4.5e33  4.5 \times 10^{33}  4.5*10^33  10^{-3}  scientific notation

The input is in one spelling (`spelling`): LaTeX fractions are `\frac{}{}`, a minus is a hyphen.
"""

import re
from fractions import Fraction

MAX_NUMBER_CHARS = 128
MAX_EXPONENT = 400  # a larger power of ten is text: its digits would be the work

_NUM = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_DECIMAL = re.compile(
    r"(?P<sign>[-+]?)\s?"
    r"(?=\.?[0-9])(?P<whole>[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]*)(?:\.(?P<decimals>[0-9]*))?"
    r"(?:[eE](?P<e>[-+]?[0-9]{1,4})"
    r"|\s?(?:\\times|\\cdot|[*x])\s?10\s?\^\s?(?:\{\s?(?P<braced>[-+]?\s?[0-9]{1,4})\s?\}"
    r"|(?P<power>[-+]?[0-9]{1,4})))?\.?"
)
_POWER_OF_TEN = re.compile(
    r"(?P<sign>[-+]?)\s?10\s?\^\s?(?:\{\s?(?P<braced>[-+]?\s?[0-9]{1,4})\s?\}|(?P<power>[0-9]))"
)
_RATIO = re.compile(
    rf"(?P<sign>[-+]?)\s?(?:(?P<slash_top>{_NUM})\s?/\s?(?P<slash_bottom>{_NUM})"
    rf"|\\frac\s?\{{\s?(?P<top>[-+]?\s?{_NUM})\s?\}}\s?\{{\s?(?P<bottom>[-+]?\s?{_NUM})\s?\}})\.?"
)
_MIXED = re.compile(
    r"(?P<sign>[-+]?)\s?(?P<whole>[0-9]+)(?:\s(?P<slash_top>[0-9]+)/(?P<slash_bottom>[0-9]+)"
    r"|\s?\\frac\s?\{\s?(?P<top>[0-9]+)\s?\}\s?\{\s?(?P<bottom>[0-9]+)\s?\})\.?"
)


def parse_number(text: str) -> Fraction | None:
    """Returns the exact value of a number in digits, None for anything else."""
    text = text.strip().replace("\u2212", "-")
    if len(text) > MAX_NUMBER_CHARS:
        return None
    if found := _DECIMAL.fullmatch(text):
        value = _decimal(found)
    elif found := _POWER_OF_TEN.fullmatch(text):
        value = _power_of_ten(found)
    elif found := _RATIO.fullmatch(text):
        value = _ratio(found["slash_top"] or found["top"], found["slash_bottom"] or found["bottom"])
    elif found := _MIXED.fullmatch(text):
        value = _ratio(found["slash_top"] or found["top"], found["slash_bottom"] or found["bottom"])
        if value is not None:  # 3 7/2 is no mixed number
            value = value + int(found["whole"]) if value < 1 else None
    else:
        return None
    return -value if value is not None and found["sign"] == "-" else value


def _decimal(found: re.Match[str]) -> Fraction | None:
    whole, decimals = found["whole"].replace(",", ""), found["decimals"] or ""
    value = Fraction(int(whole + decimals), 10 ** len(decimals))
    exponent = found["e"] or found["braced"] or found["power"]
    return value if exponent is None else _scaled(value, exponent)


def _power_of_ten(found: re.Match[str]) -> Fraction | None:
    return _scaled(Fraction(1), found["braced"] or found["power"])


def _scaled(value: Fraction, exponent: str) -> Fraction | None:
    power = int(exponent.replace(" ", ""))
    return value * Fraction(10) ** power if abs(power) <= MAX_EXPONENT else None


def _ratio(top: str, bottom: str) -> Fraction | None:
    divisor = Fraction(bottom.replace(" ", "").removesuffix("."))
    return Fraction(top.replace(" ", "").removesuffix(".")) / divisor if divisor else None
