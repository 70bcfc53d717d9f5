r"""Answers that break graders, generated from a seed: towers of powers, nesting, nonsense, junk.

Each family is a function of a generator and returns what goes into `\boxed{}`. A quarter of the
responses is the raw text alone. `python scripts/bench/grading.py --hostile N` grades N.
"""

import random
from collections.abc import Callable, Iterator

GOLDS = ("5", r"\frac{x+1}{2}", r"(-\infty, 3] \cup \{7\}", r"2\sqrt{3}", "x^2-4x-2=0", "1, 2, 3")
_NAMES = "xyzabnkt"
_FUNCTIONS = ("sin", "cos", "tan", "log", "ln", "exp", "arctan", "Gamma", "zeta")


def tower(rng: random.Random) -> str:
    levels = rng.randint(2, 40)
    base = rng.choice(["9", "10", "x", "(x+1)", "e", "i", r"\pi", "-2", "0"])
    return f"{base}^{{" * levels + "9" + "}" * levels


def gigantic_exponent(rng: random.Random) -> str:
    exponent = rng.choice([10**4, 10**6, 10**9, 10**18, 10**100]) + rng.randint(0, 99)
    form = rng.choice(
        ["{b}^{{{e}}}", "{b}^{{-{e}}}", "(x+{b})^{{{e}}}", "{b}e{e}", "{b}^{{1/{e}}}"]
    )
    return form.format(b=rng.randint(2, 99), e=exponent)


def factorial(rng: random.Random) -> str:
    n = rng.choice([10**3, 10**5, 10**7, 10**12])
    return rng.choice(
        [f"{n}!", f"({n}!)!", f"{n}!!", rf"\frac{{{n}!}}{{{n - 1}!}}", "5" + "!" * 50]
    )


def binomial(rng: random.Random) -> str:
    n = 10 ** rng.randint(3, 12)
    return rf"\{rng.choice(['binom', 'dbinom', 'tbinom'])}{{{n}}}{{{n // 2}}}"


def long_digits(rng: random.Random) -> str:
    digits = "".join(rng.choices("0123456789", k=rng.choice([100, 990, 5000, 100_000])))
    return rng.choice(["{}", "0.{}", "-{}", "{}/7", r"\sqrt{{{}}}", "{}%"]).format(digits)


def fractions(rng: random.Random) -> str:
    depth = rng.randint(2, 60)
    return r"\frac{1}{1+" * depth + rng.choice(_NAMES) + "}" * depth


def continued_sum(rng: random.Random) -> str:
    terms = [rf"\frac{{{rng.randint(1, 9)}}}{{x+{rng.randint(1, 99)}}}" for _ in range(30)]
    return rng.choice(["+", "-", r"\cdot "]).join(terms)


def braces(rng: random.Random) -> str:
    depth = rng.choice([10, 400, 2000, 50_000])
    left, right = rng.choice(["{}", "()", "[]", ("\\{", "\\}"), (r"\left(", r"\right)"), "||"])
    return left * depth + "x" + right * rng.choice([depth, depth, depth - 1, 0])


def nested_functions(rng: random.Random) -> str:
    depth = rng.randint(3, 120)
    names = [rng.choice(_FUNCTIONS) for _ in range(depth)]
    return "".join(rf"\{name}(" for name in names) + "x" + ")" * depth


def roots(rng: random.Random) -> str:
    depth = rng.randint(3, 120)
    return r"\sqrt{2+" * depth + rng.choice("2x") + "}" * depth


def polynomial(rng: random.Random) -> str:
    names = rng.sample(_NAMES, rng.randint(2, 8))
    return f"({'+'.join(names)})^{{{rng.choice([5, 30, 300, 3000])}}}"


def expression(rng: random.Random) -> str:
    """A random tree that is proper LaTeX: what a model might well write, only more of it."""

    def tree(depth: int) -> str:
        if depth == 0:
            return rng.choice(
                [*_NAMES, str(rng.randint(0, 99)), r"\pi", "e", "i", "0.5", r"\infty"]
            )
        a, b = tree(depth - 1), tree(depth - 1)
        return rng.choice(
            [
                f"({a}+{b})",
                f"({a}-{b})",
                rf"{a}\cdot {b}",
                rf"\frac{{{a}}}{{{b}}}",
                f"{{{a}}}^{{{b}}}",
                rf"\sqrt{{{a}}}",
                rf"\{rng.choice(_FUNCTIONS)}({a})",
                rf"\log_{{{a}}}({b})",
                f"|{a}|",
            ]
        )

    return tree(rng.randint(2, 5))


def series(rng: random.Random) -> str:
    n = rng.choice(["10", "10^{6}", r"\infty", "10^{100}"])
    body = rng.choice([r"\frac{1}{k^2}", "k!", r"\sin(k)^k", "x^k", r"\frac{(-1)^k}{k+\sqrt{k}}"])
    return rf"\{rng.choice(['sum', 'prod'])}_{{k=1}}^{{{n}}} {body}"


def calculus(rng: random.Random) -> str:
    body = rng.choice(
        [r"e^{-x^{x}}", r"\sin(x^{3})\ln x", r"\frac{1}{x^{7}+x+1}", r"\Gamma(x)^{x}"]
    )
    return rng.choice(
        [
            rf"\int_0^\infty {body} dx",
            rf"\iint {body} dx dy",
            rf"\lim_{{x\to 0}} {body}",
            rf"\frac{{d^{{9}}}}{{dx^{{9}}}} {body}",
        ]
    )


def matrix(rng: random.Random) -> str:
    size = rng.randint(2, 9)
    rows = [[rng.choice([f"x_{{{i}{j}}}", "1", "x^2"]) for j in range(size)] for i in range(size)]
    inside = r" \\ ".join(" & ".join(row) for row in rows)
    power = rng.choice(["", "^{-1}", "^{99}", "^T"])
    return rf"\begin{{pmatrix}} {inside} \end{{pmatrix}}{power}"


def sets(rng: random.Random) -> str:
    items = [
        rng.choice(["1", "2", "x", r"\frac{1}{2}", r"(1,2]"]) for _ in range(rng.randint(2, 90))
    ]
    opening, closing = rng.choice([(r"\{", r"\}"), ("(", ")"), ("[", ")"), ("", "")])
    return opening + rng.choice([",", ", ", r" \cup ", r" \text{ or } "]).join(items) + closing


def relations(rng: random.Random) -> str:
    sides = [expression(rng) for _ in range(rng.randint(2, 5))]
    return rng.choice(["=", "<", r" \le ", r" \neq ", r" \in ", r" \equiv "]).join(sides)


def unicode_junk(rng: random.Random) -> str:
    points = [rng.choice([rng.randint(0xA0, 0x2FFF), rng.randint(0x1F300, 0x1FAFF), 0x301, 0x202E])]
    points += [rng.randint(0xA0, 0x10FFFF) for _ in range(rng.randint(1, 400))]
    return "".join(chr(p) for p in points if not 0xD800 <= p < 0xE000)


def controls(rng: random.Random) -> str:
    return "".join(chr(rng.randint(0, 31)) + rng.choice(["", "5", "x"]) for _ in range(50))


def surrogates(rng: random.Random) -> str:
    return "".join(chr(rng.randint(0xD800, 0xDFFF)) + rng.choice(["", "5", "+"]) for _ in range(50))


def code(rng: random.Random) -> str:
    return rng.choice(
        [
            "__import__('os').kill(1, 9)",
            "exec('while True: pass')",
            "().__class__.__bases__[0].__subclasses__()",
            r"\input{/dev/zero}",
            "10**10**10",
            "(lambda f: f(f))(lambda f: f(f))",
            "%s%n%d" * 20,
            "'" * 99,
        ]
    )


def unfinished(rng: random.Random) -> str:
    text = rng.choice([expression, relations, matrix, series, calculus])(rng)
    return text[: rng.randint(1, len(text))]


def shuffled(rng: random.Random) -> str:
    words = [r"\frac", "{", "}", "^", "_", "(", ")", "1", "x", ",", "+", "-", "\\", "&", "$", " "]
    words += [r"\left", r"\right", r"\boxed", r"\text", "=", "!", "%", "|", r"\sqrt", "####"]
    return "".join(rng.choices(words, k=rng.randint(3, 200)))


def repeated(rng: random.Random) -> str:
    """Long runs, which are what makes a regular expression slow."""
    unit = rng.choice(["1+", "1 ", "1,", "-", "####", "#### 1 ", r"\boxed{", r"\frac{1}", "$", " "])
    return unit * rng.choice([100, 10_000, 100_000 // len(unit)])


FAMILIES: tuple[Callable[[random.Random], str], ...] = (
    *(tower, gigantic_exponent, factorial, binomial, long_digits, fractions, continued_sum, braces),
    *(nested_functions, roots, polynomial, expression, series, calculus, matrix, sets, relations),
    *(unicode_junk, controls, surrogates, code, unfinished, shuffled, repeated),
)


def hostile(num: int, seed: int = 0) -> Iterator[tuple[str, str, str]]:
    """Yield (family, response, gold answer), the families in turn."""
    rng = random.Random(seed)
    for i in range(num):
        family = FAMILIES[i % len(FAMILIES)]
        answer = family(rng)
        whole = rng.choice(
            [r"So \boxed{{{}}}.", r"#### 5 \boxed{{{}}}", r"\boxed{{{}}} is 5.", "{}"]
        )
        yield family.__name__, whole.format(answer), rng.choice(GOLDS)
