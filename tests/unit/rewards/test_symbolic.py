import logging
import subprocess
import sys
import threading

import pytest

from tinylora_rl.rewards.symbolic import equivalent

EQUAL = [
    (r"\frac{2}{\sqrt{3}}", r"\frac{2\sqrt3}{3}"),
    ("x(x+1)", "x^2+x"),
    ("2^{10}", "1024"),
    (r"e^{2x}\cdot e", "e^{2x+1}"),
    (r"\sqrt{12}", r"2\sqrt{3}"),
    (r"\log_2 8", "3"),
    (r"\sin\frac{\pi}{6}", r"\frac12"),
    (r"|x|", r"\sqrt{x^2}"),
    ("1+2i", "2i+1"),
    (r"\lfloor n/2\rfloor +1", r"1+\lfloor \frac{n}{2}\rfloor"),
    (r"10^{-34}\cdot\pi", r"\frac{\pi}{10^{34}}"),
    # relations
    ("y=2x+3", "2x-y+3=0"),
    ("4x-2y+6=0", "y=2x+3"),
    ("3<x", "x>3"),
    ("-2x<-6", "x>3"),
    # element by element
    (r"(\sqrt{4},\frac{2}{\sqrt3})", r"(2,\frac{2\sqrt3}{3})"),
    (r"[\sqrt{8},\infty)", r"[2\sqrt2,\infty)"),
    (r"\{\sqrt{3}\cdot 2, 1\}", r"\{1,\sqrt{12}\}"),
    (r"\sqrt{12}\text{ cm}", r"2\sqrt3"),
]

# What math-verify 0.9.0 alone calls equal, by what it overlooks.
PAID_BY_MATH_VERIFY = [
    ("0.3333333", r"\frac{1}{3}"),  # six decimals
    ("1.414214", r"\sqrt{2}"),
    (r"7.6\pi \cdot 10^{-34}", r"6.6\pi \cdot 10^{-34}"),  # chopped to zero
    (r"1\frac{1}{2}\pi", r"\frac{\pi}{2}"),  # mixed numbers
    (r"5\text{ cm}", r"5\text{ m}"),  # units
    (r"5\text{ cm}^3", r"5\text{ cm}^2"),
    (r"5\text{ million}", "5"),
    (r"5\text{ or more}", "5"),
    (r"\sin 30^\circ", r"\sin 30"),
    ("6", "6m"),
    ("2x=10", "10"),  # equations for their right sides
    ("x^2=4", "4"),
    ("a=b=5", "5"),
    ("x^2=-1", "x^2=-2"),  # equations without solutions
    ("-2,1", "1,-2"),  # order
    ("(1,2)", r"\{1,2\}"),
    ("a", "A"),  # case
    ("E", "e"),
    ("2K", "2k"),
    ("5:30", "1/6"),  # times
    ("52", "52_8"),  # bases
    ("4210_6", "4210_{5}"),
]

DIFFERENT = [
    (r"\sqrt{2}", "1.41421356237309504880168872420969807"),
    (r"1-\sqrt{2}\cdot 10^{-20}", "1"),
    (r"\pi", r"\frac{22}{7}"),
    (r"\sqrt{x^2}", "x"),
    (r"\ln(x^2)", r"2\ln x"),
    ("x>3", "x<3"),
    ("-x>3", "x>-3"),
    (r"x\ge 3", "x>3"),
    ("x=2", "y=2"),
    ("y=2x+3", "x=2y+3"),
    ("x^2=4", "x=2"),
    ("(x-1)(x+1)=0", "x-1=0"),
    (r"\log_{3}(32)=5", r"\log_{2}(32)=5"),
    (r"\sin(\pi)=0", r"\cos(\pi)=-1"),
    (r"k=\frac{\ln 2}{5830}", r"k=\frac{\ln 2}{5730}"),
    ("10-15", "-5"),
    ("1,2", "12"),
    ("1 2", "2"),
    ("(2,1)", "(1,2)"),
    (r"50\%", "0.5"),
    ("no solution", "solution no"),
    ("3x+", "3x"),
    (r"\frac{1}{0}", r"\frac{2}{0}"),
    ("", ""),
    ("{", "}"),
    ("10^{10^{10^{10}}}", "1"),
    ("9!!!!!!", "1"),
    ("99999999!", "1"),
    ("2^{99999999}", "1"),
    ("(" * 400 + "1" + ")" * 400, "2"),
    ("x" * 1001, "y"),
]


@pytest.mark.parametrize(("answer", "gold"), EQUAL, ids=ascii)
def test_equal(answer, gold):
    assert equivalent(answer, gold, None, False)
    assert equivalent(gold, answer, None, False)


@pytest.mark.parametrize(("answer", "gold"), PAID_BY_MATH_VERIFY + DIFFERENT, ids=ascii)
def test_different(answer, gold):
    assert not equivalent(answer, gold, None, False)
    assert not equivalent(gold, answer, None, False)


@pytest.mark.parametrize(("answer", "gold"), PAID_BY_MATH_VERIFY, ids=ascii)
def test_the_guards_are_still_needed(answer, gold):
    """A guard whose row fails here can go: math-verify has learnt it."""
    math_verify = pytest.importorskip("math_verify")
    parsed = [
        math_verify.parse(f"\\boxed{{{text}}}", parsing_timeout=None) for text in (gold, answer)
    ]
    assert math_verify.verify(*parsed, timeout_seconds=None)


@pytest.mark.parametrize(
    ("restated", "value"), [(r"\int_0^1 2x\,dx", "1"), (r"\sum_{i=1}^{10} i", "55")]
)
def test_an_answer_may_not_restate_the_problem(restated, value):
    assert not equivalent(restated, value, None, False)
    assert equivalent(value, restated, None, False)  # a gold answer may be left undone


def test_tolerance_and_order_hold_for_algebra_too():
    assert equivalent(r"\frac{\sqrt{17}}{2}", "2.06", 0.01, False)
    assert not equivalent(r"\frac{\sqrt{17}}{2}", "2.06", 0.001, False)
    assert equivalent(r"1+\sqrt2, \sqrt{12}", r"2\sqrt3, \sqrt2+1", None, True)
    assert not equivalent(r"1+\sqrt2, \sqrt{12}", r"2\sqrt3, \sqrt2+1", None, False)


def test_it_works_in_a_thread_and_is_silent(caplog, capfd):
    """math-verify's own alarms would raise in a thread; without them it would log a warning."""
    verdicts = []
    thread = threading.Thread(
        target=lambda: verdicts.append(equivalent("x(x+1)", "x^2+x", None, False))
    )
    with caplog.at_level(logging.INFO):
        thread.start()
        thread.join()
    assert verdicts == [True]
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_the_judges_import_sympy_only_when_they_need_it():
    code = "import sys, tinylora_rl.rewards.judges, tinylora_rl.rewards.symbolic as s\n"
    code += "print('sympy' in sys.modules, s.equivalent('5', '5.0', None, False))\n"
    code += "print('sympy' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert out.stdout.split() == ["False", "True", "False"]
