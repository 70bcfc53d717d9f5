from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinylora_rl.rewards.normalise import canonical, exact_match, parse_number

INTEGERS = st.integers(min_value=-(10**30), max_value=10**30)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12)

SAME = [
    # digit groups
    ("1,234", "1234"),
    ("1,234,567", "1234567"),
    (r"1\,234", "1234"),
    (r"1{,}234", "1234"),
    (r"1,\!234", "1234"),
    (r"10\!000", "10000"),
    ("1\u202f234", "1234"),
    ("1,234.50", "1234.5"),
    # currency, percent, spaces, dollars
    ("$72", "72"),
    (r"\$72", "72"),
    ("\u20ac72", "72"),
    ("\u00a372", "72"),
    ("72$", "72"),
    ("$72$", "72"),
    ("$$72$$", "72"),
    ("$ 72 $", "72"),
    ("  72\n", "72"),
    ("-$72", "-72"),
    ("$-72", "-72"),
    (r"-\$1,072.50", "-1072.5"),
    ("72%", "72"),
    (r"72\%", "72"),
    (r"$72\%$", "72"),
    ("72 %", "72"),
    # zeros, dots, signs
    ("72.", "72"),
    ("72.0", "72"),
    ("72.00", "72"),
    ("072", "72"),
    ("000", "0"),
    ("-0", "0"),
    ("0.50", ".5"),
    ("+5", "5"),
    ("- 5", "-5"),
    ("\u22125", "-5"),
    ("\u20135", "-5"),
    ("\uff0d5", "-5"),
    # fractions
    ("1/2", "0.5"),
    ("1 / 2", r"\frac{1}{2}"),
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac{1}{2}", r"\frac{1}{2}"),
    (r"\tfrac12", r"\frac{1}{2}"),
    (r"\frac1{72}", r"\frac{1}{72}"),
    (r"\frac{72}1", "72"),
    (r"\frac{ 1 }{ 2 }", r"\frac{1}{2}"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    (r"\frac{2}{4}", r"\frac{1}{2}"),
    # LaTeX
    (r"\text{Evelyn}", "Evelyn"),
    (r"\textbf{Evelyn}", "Evelyn"),
    (r"\mathrm{ Evelyn }", "Evelyn"),
    (r"\text{72}", "72"),
    (r"5\text{ cm}", r"5 \mathrm{cm}"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
    (r"\left[ 0, 1 \right)", "[0,1)"),
    (r"\left\{1,2\right\}", r"\{1,2\}"),
    (r"90^\circ", "90"),
    (r"90^{\circ}", "90"),
    ("90\u00b0", "90"),
    (r"90\degree", "90"),
    (r"\dfrac{\sqrt{3}}{2}", r"\frac{\sqrt{3}}{2}"),
    (r"\frac\pi2", r"\frac\pi2"),
    ("6 - 5i", "6-5i"),
    ("p - q", "p-q"),
    ("2 x", "2x"),
    (r"2 \pi", r"2\pi"),
    (r"2\,\pi", r"2\pi"),
    (r"2\;\pi", r"2\pi"),
    (r"2\quad\pi", r"2\pi"),
    ("$x+1$.", "x+1"),
    ("$48$, $384$", "48, 384"),
    ("48,  384", "48, 384"),
    # mixed numbers, scientific notation
    (r"1\frac{4}{5}", "1.8"),
    ("137 1/2", "137.5"),
    (r"-1\frac{1}{2}", "-1.5"),
    ("3e4", "30000"),
    ("1.5e-3", "0.0015"),
    (r"3 \times 10^{8}", "300000000"),
    (r"3 \times 10^8", "3e8"),
    ("10^3", "1000"),
    ("-1./3", r"-\frac{1}{3}"),
    # a unit or a name on one side
    ("5 cm", "5"),
    (r"5\text{ cm}", "5"),
    (r"5\text{ cm}^2", r"5 \text{ square centimeters}"),
    (r"5 \mathrm{~km} / \mathrm{hr}", r"5\text{ kilometers per hour}"),
    (r"5 \text{ apples}", "5"),
    (r"90^\circ", r"90\text{ degrees}"),
    (r"\$5", "5 dollars"),
    (r"12\pi\text{ cm}^3", r"12\pi"),
    ("x=5", "5"),
    (r"x \in [0,1)", "[0, 1)"),
    (r"x = 2, 3", "2, 3"),
    # shapes
    ("(1/2, 3)", "(0.5,3.0)"),
    ("[0,0.50]", r"[0, \frac12]"),
    (r"\{1,2\}", r"\{2, 1\}"),
    (r"(-\infty,1)\cup(2,+\infty)", r"(-\infty, 1) \cup (2, \infty)"),
    (r"\begin{pmatrix}1/2\\3\end{pmatrix}", r"\begin{bmatrix} 0.5 \\ 3 \end{bmatrix}"),
    (r"\left[\begin{array}{cc}1 & 2\end{array}\right]", r"\begin{pmatrix}1&2\end{pmatrix}"),
    ("2 and 3", "2, 3"),
    (r"1 \pm \sqrt{2}", r"1+\sqrt{2}, 1-\sqrt{2}"),
    (r"\text{(C)}", "C"),
    (r"\sqrt2", r"\sqrt{2}"),
]

DIFFERENT = [
    # sign
    ("5", "-5"),
    ("-5", "5"),
    ("\u22125", "5"),
    ("+5", "-5"),
    ("--5", "5"),
    ("--5", "-5"),
    ("-1/2", "1/2"),
    (r"-\frac{1}{2}", r"\frac{1}{2}"),
    ("x-1", "x+1"),
    # digits, decimal place
    ("72", "720"),
    ("720", "72"),
    ("72", "7"),
    ("72", "27"),
    ("7.2", "72"),
    ("0.72", "72"),
    ("72.1", "72"),
    ("72.01", "72"),
    ("72.0000000000000000000000001", "72"),
    ("9007199254740993", "9007199254740992"),  # equal as floats
    ("0.1000000000000000055511151231257827", "0.1"),
    ("1234", "1,2345"),
    ("10,5", "105"),
    ("10,5", "10.5"),
    ("1,2,3", "123"),
    ("1,23", "123"),
    ("0,123", "123"),
    ("1.234.567", "1234567"),
    ("1 234", "1234"),
    ("12 3", "123"),
    # kinds
    ("50%", "0.5"),
    ("12k", "12"),
    ("12k", "12000"),
    ("3e4", "3"),
    ("1e999999999", "1"),
    ("5:30", "5"),
    ("10-15", "10"),
    ("10-15", "15"),
    ("10-15", "-5"),
    ("2+3", "5"),
    (r"5\text{ million}", "5"),
    ("(5)", "5"),
    ("5 cm", r"5\text{ m}"),
    (r"5\text{ cm}", r"5\text{ cm}^2"),
    (r"5\text{ hours}", r"5\text{ minutes}"),
    (r"5\%", r"5\text{ cm}"),
    (r"\$5", r"5\text{ cents}"),
    ("5m", "5"),
    ("2x cm", "2x"),
    (r"\sin 30^\circ", r"\sin 30"),
    ("x=5", "y=5"),
    ("x=5", r"x \in 5"),
    ("x==5", "5"),
    ("2x=5", "5"),
    ("x<5", "5"),
    ("x = 2, y = 3", "y = 2, x = 3"),
    (r"x \in [0,1)", r"y \in [0,1)"),
    (r"3\frac{7}{2}", "6.5"),
    ("1e401", "1e402"),
    (r"\{1,2\}", "(1,2)"),
    (r"\{1,1,2\}", r"\{1,2,2\}"),
    ("(0,1)", "(0,1]"),
    ("1, 2", "2, 1"),
    (r"\pm 2", "2"),
    (r"\pm 2", "(2,-2)"),
    (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
    (r"\begin{vmatrix}1&2\end{vmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}"),
    ("5\u00b2", "5"),
    ("5\u00bd", "5"),
    ("\u0665", "5"),
    ("nan", "nan1"),
    ("inf", "1"),
    ("0x10", "16"),
    ("1_000", "1000"),
    ("1/0", "0"),
    ("1/3", "0.33"),
    ("1/3", "0.3333333333333333"),
    ("1 1/2", "11/2"),
    (r"1\frac{1}{2}", r"\frac{1}{2}"),
    (r"\frac{1}{2}", r"\frac{2}{1}"),
    ("$48$, $384$", "48384"),
    ("$48$,$384$", "48384"),
    ("48, 384", "48384"),
    (r"90^\circ 30", "9030"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "(12)"),
    ("(1 2)", "(12)"),
    ("no root", "noroot"),
    ("Evelyn", "evelyn"),
    (r"\pi r", r"\pi"),
    (r"\leftarrow", "arrow"),
    ("", "0"),
    (".", "0"),
    ("-", "0"),
    ("$", "0"),
    (",", "0"),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=ascii)
def test_same(one, other):
    assert exact_match(one, other)
    assert exact_match(other, one)


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=ascii)
def test_different(one, other):
    assert not exact_match(one, other)
    assert not exact_match(other, one)


@pytest.mark.parametrize("empty", ["", " ", "$", "$$", r"\text{}", r"\left", "."])
def test_nothing_equals_nothing(empty):
    assert not exact_match(empty, empty)


def test_no_number_beyond_the_cap():
    assert parse_number("1" * 128) == int("1" * 128)
    assert parse_number("1" * 129) is None
    assert canonical("{" * 100_000) == "{" * 100_000
    assert not exact_match("1" * 100_000, "1")


def test_unordered_answers_match_in_any_order():
    assert exact_match("2, 1", "1,2", unordered=True)
    assert exact_match(r"\{2, 1\}", "1,2", unordered=True)
    assert exact_match("7,500, 2,500", "2500,7500", unordered=True)
    assert exact_match("200,100", "100,200", unordered=True)
    assert not exact_match("2, 1", "1,2")
    assert not exact_match("1, 1", "1,2", unordered=True)
    assert not exact_match("1,2,2", "1,2", unordered=True)
    assert not exact_match("(2,1)", "(1,2)", unordered=True)
    # `5` fits both golds, `5 cm` only the second: pairs are searched for, not taken greedily
    assert exact_match(r"5, 5\text{ cm}", r"5\text{ cm}, 5\text{ m}", unordered=True)


def test_tolerance_is_absolute_and_exact():
    assert exact_match("4.3", "4.2", tolerance=0.1)  # as floats, 4.3 - 4.2 > 0.1
    assert not exact_match("4.3000000000000001", "4.2", tolerance=0.1)
    assert exact_match(r"\frac{43}{10}", "4.2", tolerance=0.1)
    assert exact_match(r"4.3 \times 10^{8}", "4.2e8", tolerance=1e7)
    assert exact_match("(4.3, 1)", "(4.2, 1.1)", tolerance=0.1)
    assert not exact_match("x", "4.2", tolerance=1e9)
    assert not exact_match(r"4.2\text{ cm}", r"4.2\text{ m}", tolerance=0.1)


@given(st.fractions(), st.fractions(), st.floats(0, 10))
def test_within_the_tolerance(one, other, tolerance):
    close = abs(one - other) <= Fraction(repr(tolerance))
    assert exact_match(str(one), str(other), tolerance=tolerance) == close


@given(st.permutations(["1", "2/3", r"\sqrt{2}", "(1,2)", "x=4"]))
def test_order_counts_unless_it_is_said_not_to(items):
    gold = ["1", "2/3", r"\sqrt{2}", "(1,2)", "x=4"]
    assert exact_match(", ".join(items), ", ".join(gold), unordered=True)
    assert exact_match(", ".join(items), ", ".join(gold)) == (items == gold)


UNITS_OF = ["cm", "m", "kg", "hours", "dollars", "apples", "degrees", "miles per hour", "cm^2"]


@given(INTEGERS, INTEGERS, st.sampled_from(UNITS_OF), st.sampled_from(UNITS_OF))
def test_units_are_ignored_once_and_compared_twice(answer, gold, unit, other):
    with_unit = rf"{answer}\text{{ {unit}}}"
    assert exact_match(with_unit, str(gold)) == (answer == gold)
    assert exact_match(str(answer), rf"{gold} \mathrm{{{unit}}}") == (answer == gold)
    assert exact_match(with_unit, rf"{answer}\text{{ {other}}}") == (unit == other)


@given(INTEGERS)
def test_integer_round_trip(value):
    assert parse_number(str(value)) == value
    assert exact_match(f"{value}.00", str(value))


@given(DECIMALS)
def test_decimal_round_trip(value):
    assume(len(text := f"{value:f}") <= 128)
    assert parse_number(text) == Fraction(value)


@given(DECIMALS, DECIMALS)
def test_numbers_match_exactly_when_equal(one, other):
    assert exact_match(f"{one:f}", f"{other:f}") == (one == other)


@given(INTEGERS, INTEGERS, st.sampled_from([",", r"\,", "{,}", r",\!", "\u202f"]))
def test_thousands_separators_never_change_the_verdict(answer, gold, separator):
    grouped = f"{answer:,}".replace(",", separator)
    assert exact_match(grouped, str(gold)) == (answer == gold)
    assert exact_match(grouped, str(answer))


@given(INTEGERS, st.integers(0, 2), st.data())
def test_changing_one_digit_flips_the_verdict(value, num_decimals, data):
    text = f"{value:,}" + ("." + "5" * num_decimals if num_decimals else "")
    place = data.draw(st.sampled_from([i for i, char in enumerate(text) if char.isdigit()]))
    digit = data.draw(st.sampled_from([d for d in "0123456789" if d != text[place]]))
    changed = text[:place] + digit + text[place + 1 :]
    assert exact_match(text, text)
    assert not exact_match(changed, text)
    assert not exact_match(changed.replace(",", ""), text)


@given(INTEGERS.filter(bool), st.sampled_from(["", "$", r"\$"]), st.sampled_from(["", ".0", "%"]))
def test_flipping_the_sign_flips_the_verdict(value, before, after):
    sign = "-" if value < 0 else ""
    assert exact_match(f"{sign}{before}{abs(value)}{after}", str(value))
    assert not exact_match(f"{sign}{before}{abs(value)}{after}", str(-value))


@given(INTEGERS.filter(bool), st.integers(1, 6))
def test_moving_the_decimal_place_flips_the_verdict(value, places):
    shifted = Fraction(value, 10**places)
    text = f"{value:0{places + 2}d}"
    assert exact_match(f"{text[:-places]}.{text[-places:]}", f"{value}/{10**places}")
    assert parse_number(f"{text[:-places]}.{text[-places:]}") == shifted
    assert not exact_match(f"{text[:-places]}.{text[-places:]}", str(value))


@given(st.text(max_size=60))
def test_any_text_has_a_canonical_form(text):
    assert exact_match(text, text) == (canonical(text) != "")
