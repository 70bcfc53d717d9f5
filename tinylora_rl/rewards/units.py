r"""Splits a constant from the unit behind it and the currency sign before it.

A unit counts only after a constant (`36\sqrt{7}\text{ cm}^2`, not `2x \text{ cm}`), and only
    words of `UNITS` in `\text{...}` and the like, or bare if they cannot be a product of variables
    `^\circ`, `%`, a currency sign
    one plural word in `\text{...}`: `\text{ apples}`, unless it is a number word (`millions`)
Compounds are read with `per`, `/`, `square`, `cubic`, `^2`, `^3`.
"""

import re

# canonical name -> spellings, plurals in -s excluded
UNITS: dict[str, tuple[str, ...]] = {
    "cm": ("centimeter", "centimetre"),
    "mm": ("millimeter", "millimetre"),
    "km": ("kilometer", "kilometre"),
    "nm": ("nanometer", "nanometre"),
    "m": ("meter", "metre"),
    "inch": ("inches", "in"),
    "ft": ("foot", "feet"),
    "yd": ("yard",),
    "mi": ("mile",),
    "acre": (),
    "kg": ("kilogram", "kilo"),
    "mg": ("milligram",),
    "g": ("gram", "gm"),
    "lb": ("pound", "lbs"),
    "oz": ("ounce",),
    "ton": ("tonne",),
    "L": ("liter", "litre"),
    "mL": ("milliliter", "millilitre", "ml"),
    "gallon": ("gal",),
    "quart": ("qt",),
    "pint": (),
    "cup": (),
    "s": ("second", "sec"),
    "ms": ("millisecond",),
    "min": ("minute", "mins"),
    "hour": ("hr", "hrs", "h"),
    "day": (),
    "week": (),
    "month": (),
    "year": ("yr", "yrs"),
    "mph": (),
    "N": ("newton",),
    "J": ("joule",),
    "W": ("watt",),
    "V": ("volt",),
    "A": ("ampere", "amp"),
    "K": ("kelvin",),
    "T": ("tesla",),
    "Hz": ("hertz",),
    "Pa": ("pascal",),
    "eV": ("electronvolt",),
    "ohm": (),
    "radian": ("rad",),
    "degree": ("deg",),
    "percent": ("pct",),
    "dollar": ("usd",),
    "cent": (),
    "euro": ("eur",),
    "unit": (),
    "square unit": (),
    "people": ("person",),
    "child": ("children",),
    "man": ("men",),
    "woman": ("women",),
    "foot-pound": (),
}
_POWERS = {"square": "^2", "sq": "^2", "cubic": "^3", "squared": "^2", "cubed": "^3"}
# Without `\text` these may be a product of variables or a word of a sentence.
_NEVER_BARE = {"m", "g", "s", "L", "N", "J", "W", "V", "A", "K", "T", "Pa", "eV"}
_NEVER_BARE |= {"in", "h", "mg", "ms", "ml", "mL", "gm", "mi", "nm", "rad", "deg", "yd", "man"}
_BARE_COMPOUNDS = {"m/s", "m/s^2", "cm/s", "ft/s", "ft/s^2", "km/h", "km/hr", "mi/h", "mi/hr"}
_SAME_AS = {"mi/hour": "mph"}
_NUMBER_WORDS = {"ones", "tens", "hundreds", "thousands", "millions", "billions", "trillions"}
_NUMBER_WORDS |= {"dozens", "halves", "quarters", "thirds", "pairs", "couples", "times", "less"}
_NUMBER_WORDS |= {
    "lakhs",
    "crores",
    "myriads",
    "grands",
    "plus",
    "minus",
    "solutions",
    "pis",
    "roots",
    "scores",
    "grosses",
    "bits",
}

_CURRENCIES = {r"\$": "dollar", "\u20ac": "euro", "\u00a3": "pound", "\u00a5": "yen"}
_CURRENCIES["\u20b9"] = "rupee"
_CURRENCY = re.compile(r"([-+]?)\s?(\\\$|[\u20ac\u00a3\u00a5\u20b9])\s?([-+]?)(?=\s?[0-9.\\])")
_TOKEN = re.compile(
    r"(?P<wrapped>\\(?:text(?:bf|it|rm|normal)?|math(?:rm|it|bf)|mbox)\s?\{(?P<inside>[^{}]*)\})"
    r"|(?P<degrees>\^\\circ(?![A-Za-z]))|(?P<percent>\\?%)|(?P<currency>\\\$)"
    r"|(?P<power>\^\s?[23]|\^\{\s?[23]\s?\}|[\u00b2\u00b3])"
    r"|(?P<command>\\[A-Za-z]+|\\.)|(?P<word>[A-Za-z]+\.?)|(?P<slash>/)|(?P<space>\s+)"
    r"|(?P<other>.)",
    re.DOTALL,
)
_TEMPERATURE = re.compile(r"\^\\circ(?:\\text|\\mathrm)?([CF])")
_UNIT_KINDS = {"wrapped", "degrees", "percent", "currency", "power", "word", "slash", "space"}
_NAME_KINDS = {"wrapped", "degrees", "percent", "currency", "word"}
_CONSTANT_COMMANDS = {r"\frac", r"\sqrt", r"\pi", r"\times", r"\cdot", r"\pm", r"\ln", r"\log"}
_SPELLINGS = {
    spelling: name for name, others in UNITS.items() for spelling in (name, *others)
} | {f"{other}s": name for name, others in UNITS.items() for other in (name, *others)
     if len(other) > 2}  # fmt: skip


def split_unit(text: str) -> tuple[str, str | None]:
    """Returns the text before the unit, and the unit's canonical name; (text, None) without one."""
    if currency := _CURRENCY.match(text):
        if currency[1] and currency[3]:
            return text, None
        name = _CURRENCIES[currency[2]]
        amount, unit = _split_behind(currency[1] + currency[3] + text[currency.end() :])
        return amount, name if unit in (None, name) else f"{name} {unit}"
    return _split_behind(text)


def _split_behind(text: str) -> tuple[str, str | None]:
    tokens = list(_TOKEN.finditer(text.rstrip().removesuffix(".")))
    start = len(tokens)
    while start and tokens[start - 1].lastgroup in _UNIT_KINDS:
        start -= 1
    # `5^2` and `1/2` end in what could belong to a unit; a unit starts with a name.
    while start < len(tokens) and tokens[start].lastgroup not in _NAME_KINDS:
        start += 1
    if start == len(tokens) or not _is_constant(tokens[:start]):
        return text, None
    unit = _unit_name(tokens[start:])
    return (text[: tokens[start].start()], unit) if unit else (text, None)


def _is_constant(tokens: list[re.Match[str]]) -> bool:
    """Returns True for numbers, roots, pi: nothing that could multiply a letter behind it."""
    digits = any(token.group().isdigit() or token.group() == r"\pi" for token in tokens)
    return digits and all(
        token.group() in _CONSTANT_COMMANDS
        if token.lastgroup == "command"
        else token.lastgroup in {"space", "slash", "power"}
        or token.group().isdigit()
        or token.group() in "{}()[].,+-*^!"
        for token in tokens
    )


def _unit_name(tokens: list[re.Match[str]]) -> str | None:
    """Returns `km/hour`, `cm^2`, `apple`; None if the tokens are no unit."""
    compound = re.sub(r"[\s{}]", "", "".join(token.group() for token in tokens))
    if compound in _BARE_COMPOUNDS:
        wrapped = [(compound.partition("^")[0].replace("/", " / "), True)]
        wrapped += [("^2", True)] if "^" in compound else []
    else:
        wrapped = [_as_words(token) for token in tokens]
    if scale := _TEMPERATURE.fullmatch(compound):
        return f"degree {scale[1]}"
    words = [(word, inside) for text, inside in wrapped for word in text.split()]
    name, before = "", ""
    for word, inside in words:
        if word == "per" or word == "/":
            if not name or name.endswith("/") or before:
                return None
            name += "/"
        elif word in ("^2", "^3", "squared", "cubed"):
            if not name or name[-1] in "/23":
                return None
            name += _POWERS.get(word, word)
        elif word in _POWERS:
            before = _POWERS[word]
        else:
            unit = _known(word, inside) or (_count_noun(word) if inside and len(words) == 1 else "")
            if not unit or (name and not name.endswith("/")):
                return None
            name, before = name + unit + before, ""
    return None if before or name.endswith("/") else _SAME_AS.get(name, name) or None


def _as_words(token: re.Match[str]) -> tuple[str, bool]:
    kind, text = token.lastgroup, token.group()
    if kind == "wrapped":
        return token["inside"].replace("/", " / ").replace("^", " ^").replace("~", " "), True
    if kind == "power":
        return ("^2" if text.strip("^{} ") in ("2", "\u00b2") else "^3"), True
    names = {"degrees": "degree", "percent": "percent", "currency": "dollar"}
    return names.get(kind or "", text), kind not in ("word",)


def _known(word: str, inside: bool) -> str | None:
    word = word.removesuffix(".")
    if not inside and word in _NEVER_BARE:
        return None
    return _SPELLINGS.get(word) or _SPELLINGS.get(word.lower() if len(word) > 2 else "")


def _count_noun(word: str) -> str:
    is_plural = len(word) > 3 and word.isascii() and word.isalpha() and word.islower()
    is_plural = is_plural and word.endswith("s") and not word.endswith("ths")
    is_number = word in _NUMBER_WORDS or word.endswith("illions")
    return word.removesuffix("s") if is_plural and not is_number else ""
