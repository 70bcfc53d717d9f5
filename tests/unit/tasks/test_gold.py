import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks import gold


@pytest.mark.parametrize(
    ("solution", "boxed"),
    [
        (r"so \boxed{1.6} \mathrm{~cm}", "1.6"),
        (r"\boxed{1}, then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed{ \{x : x > 0\} }", r"\{x : x > 0\}"),
        (r"\boxed{a \\ b}", r"a \\ b"),
    ],
)
def test_last_boxed(solution, boxed):
    assert gold.last_boxed(solution, "p") == boxed


@pytest.mark.parametrize(
    ("solution", "message"),
    [("it is 4", r"p: no \\boxed\{\} in"), (r"\boxed{\frac{1}{2}", r"p: .* never closed")],
)
def test_no_box(solution, message):
    with pytest.raises(ConfigError, match=message):
        gold.last_boxed(solution, "p")


NESTED = st.recursive(
    st.text("ab1 +", min_size=1),
    lambda inner: st.lists(inner, min_size=1).map(lambda parts: "{" + "}{".join(parts) + "}"),
)


@given(content=NESTED, before=NESTED, after=st.text("ab1 .{}"))
def test_last_boxed_is_the_last_one_whole(content, before, after):
    solution = rf"\boxed{{{before}}} so \boxed{{{content}}}{after}"
    assert gold.last_boxed(solution, "p") == content.strip()


@pytest.mark.parametrize(
    ("answer", "bare"),
    [
        ("$10-4 n$", "10-4 n"),
        ("-1", "-1"),
        ("$x=0$ or $x=2$", "x=0 or x=2"),
        (r"$\$ 3040$", r"\$ 3040"),
        ("$$\nx\n$$", "x"),
        ("$69$,$84$", "69,84"),
        ("$221,$8$", "221,8"),
    ],
)
def test_without_delimiters(answer, bare):
    assert gold.without_delimiters(answer) == bare


@pytest.mark.parametrize(("value", "text"), [(27.0, "27"), (-1.0, "-1"), (0.5, "0.5"), (3, "3")])
def test_shortest_number(value, text):
    assert gold.shortest_number(value) == text


def test_tolerance():
    assert gold.tolerance(None, "p") is None
    assert gold.tolerance("1e-1", "p") == 0.1
    for error in ("0.01,0.1", "", "-1", "0", "nan", "inf", []):
        with pytest.raises(ConfigError, match=r"p: error=.* is not one positive number"):
            gold.tolerance(error, "p")
