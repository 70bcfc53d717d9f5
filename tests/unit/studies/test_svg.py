"""Charts as text: well-formed whatever the numbers, and marks where they belong."""

import math
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tinylora_rl.studies.svg import MAX_POINTS, Chart, Line, draw, linear_ticks, log_ticks, number

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12)


@settings(deadline=None)
@given(st.lists(st.tuples(FINITE, FINITE), max_size=8), st.booleans(), st.booleans(), st.text())
def test_any_numbers_and_labels_make_well_formed_marks(points, log_x, log_y, label):
    label = "".join(c for c in label if c.isprintable())
    chart = Chart(
        lines=[Line(label=label, points=points, marked=True)],
        name=label,
        log_x=log_x,
        log_y=log_y,
    )
    root = ElementTree.fromstring(draw(chart))
    circles = list(root.iter("circle"))
    assert all(math.isfinite(float(circle.get(key))) for circle in circles for key in ("cx", "cy"))
    if not log_x and not log_y:
        assert len(circles) == len(points)


def test_up_is_more_and_right_is_later():
    root = ElementTree.fromstring(
        draw(Chart(lines=[Line(label="a", points=[(1, 0.1), (2, 0.9)])], name="a", limits=(0, 1)))
    )
    first, last = root.iter("circle")
    assert float(first.get("cx")) < float(last.get("cx"))
    assert float(first.get("cy")) > float(last.get("cy"))
    assert first.find("title").text == "a: 1, 0.1"


def test_what_a_logarithmic_axis_cannot_show_is_left_out():
    points = [(1, 0.0), (2, 0.5), (3, float("nan")), (4, 0.25)]
    chart = Chart(lines=[Line(label="a", points=points)], name="a", log_y=True)
    assert draw(chart).count("<circle") == 2


def test_long_lines_are_thinned_and_keep_their_end():
    points = [(step, step) for step in range(5 * MAX_POINTS + 3)]
    (path,) = ElementTree.fromstring(draw(Chart(lines=[Line(label="a", points=points)], name="a")))[
        -1
    ].iter("path")
    places = path.get("d").split("L")
    assert len(places) <= MAX_POINTS + 1
    assert places[-1].split()[0] == "350.0" or float(places[-1].split()[0]) > 330


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_linear_ticks_are_round_and_within(low, span, count):
    assume(span > 1e-4 * abs(low))  # axes over less are widened
    ticks, step = linear_ticks(low, low + span, count)
    assert 2 <= len(ticks) <= max(count, 5) + 1
    assert all(low - 1e-6 * step <= tick <= low + span + 1e-6 * step for tick in ticks)
    assert f"{step:.0e}"[0] in "125"


def test_log_ticks():
    assert log_ticks(1, 1e6, 8) == pytest.approx([1, 10, 100, 1e3, 1e4, 1e5, 1e6])
    assert log_ticks(1, 1e6, 4) == pytest.approx([1, 100, 1e4, 1e6])
    assert log_ticks(2e-3, 3e-2, 8) == pytest.approx([0.002, 0.005, 0.01, 0.02])


def test_numbers_are_short():
    values = (0, 0.25, 12, 1234, 627_712, 1.5e9, 3e-5, -0.5)
    assert [number(value) for value in values] == [
        "0", "0.25", "12", "1.23k", "628k", "1.5G", "3e-05", "-0.5",
    ]  # fmt: skip
