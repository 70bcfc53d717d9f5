r"""The judges: each gives a verdict on a response, under a name that a recipe chooses.

A judge extracts an answer from the response and grades it against the gold answer. `strict`,
`flexible` and `boxed` grade by exact match after normalisation (`normalise`); `flexible_symbolic`
and `boxed_symbolic` also accept answers that math-verify proves equal (`symbolic`). There is no
`strict_symbolic`: `strict` extracts a number, and numbers are compared exactly already.

A user's own judge is one file, listed in `plugins=[letter.py]`:

    import re
    from tinylora_rl.rewards import register_judge

    def letter(response):
        found = re.search(r"Answer: ([A-D])", response)
        return found and found[1]

    register_judge("letter", extractor=letter)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tinylora_rl.plugins import current
from tinylora_rl.rewards.extract import EXTRACTORS, Extractor
from tinylora_rl.rewards.normalise import MAX_ANSWER_CHARS, exact_match

__all__ = ["JUDGES", "MAX_ANSWER_CHARS", "Gold", "Judge", "Judged", "Verdict"]
__all__ += ["is_isolated", "judge", "judge_named", "register_judge"]

Verdict = Literal["right", "wrong", "no_answer", "timed_out"]


@dataclass(frozen=True, kw_only=True)
class Gold:
    """The right answer, as a benchmark states it."""

    answer: str
    tolerance: float | None = None  # absolute; only where the benchmark states one
    unordered: bool = False  # several answers, separated by commas, in any order

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 <= self.tolerance < float("inf"):
            raise ValueError(
                f"tolerance={self.tolerance!r}: not a finite number >= 0; fix the gold answer"
            )

    @classmethod
    def qualified(cls, answer: str, info: Mapping[str, Any]) -> "Gold":
        """Returns a gold answer with the qualifications in a row's `extra_info`."""
        tolerance = info.get("tolerance")
        return cls(
            answer=answer,
            tolerance=None if tolerance is None else float(tolerance),
            unordered=bool(info.get("unordered")),
        )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A verdict, and the extracted answer it is about; None where there was none.

    Our judges never return `timed_out`: it is the verdict of the pool that killed their process.
    """

    verdict: Verdict
    answer: str | None


Grader = Callable[[str, Gold], bool | Verdict]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Extracts an answer from a response and grades it.

    Attributes:
        extract: takes a response, returns the answer in it, or None.
        grade: takes an answer and the gold answer, returns True, False or a verdict.
        extractor: the key of `extract` in EXTRACTORS; None where it is a user's own function.
        is_isolated: it may loop, crash or fill the memory, so it runs in a process that can be
            killed.
        prepare: called in that process before the first answer's deadline begins, for imports.
        plugin: the file or module that registered it; None for our own.
    """

    extract: Extractor
    grade: Grader
    extractor: str | None
    is_isolated: bool
    prepare: Callable[[], object] | None = None
    plugin: str | None = None


def _exact(answer: str, gold: Gold) -> bool:
    return exact_match(answer, gold.answer, gold.tolerance, gold.unordered)


def _symbolic(answer: str, gold: Gold) -> bool:
    if _exact(answer, gold):
        return True
    from tinylora_rl.rewards.symbolic import equivalent  # imports sympy: a second

    return equivalent(answer, gold.answer, gold.tolerance, gold.unordered)


def _load_sympy() -> None:
    """Loads sympy, math-verify and the tables of its LaTeX parser."""
    _symbolic(r"\frac{\sqrt{2}}{x+1}", Gold(answer=r"\sqrt{2}(x+1)^{-1}"))


JUDGES: dict[str, Judge] = {
    **{
        name: Judge(extract=extract, grade=_exact, extractor=name, is_isolated=False)
        for name, extract in EXTRACTORS.items()
    },
    **{
        f"{name}_symbolic": Judge(
            extract=EXTRACTORS[name],
            grade=_symbolic,
            extractor=name,
            is_isolated=True,
            prepare=_load_sympy,
        )
        for name in ("flexible", "boxed")
    },
}

_RESULT_KEYS = ("score", "acc", "no_answer", "timed_out", "grade_s")  # of `compute_score`


def register_judge(
    name: str, *, extractor: str | Extractor | None = None, grader: Grader | None = None
) -> None:
    """Adds a user's own judge, for every place that takes the name of a judge.

    It runs in the processes of a `GradingPool`, with their deadline and memory limit, and without
    the environment's keys and tokens. Each of them imports the plugin that calls this: keep it
    apart from a plugin that imports torch, which exceeds the memory limit.

    Args:
        name: of the judge, and of its metrics.
        extractor: takes a response, returns the answer in it, or None where there is none; or the
            name of one of EXTRACTORS. By default the whole response is the answer.
        grader: takes the answer and the gold answer, returns True, False or a verdict. By default
            the answers must match exactly after normalisation. An exception counts as `timed_out`.

    Raises:
        ValueError: the name is taken or no identifier, the extractor is unknown, or there is
            neither extractor nor grader.
    """
    if not name.isidentifier() or name in (*JUDGES, *_RESULT_KEYS):
        raise ValueError(
            f"judge={name!r}: is taken or no identifier; choose a name other than "
            f"{', '.join((*JUDGES, *_RESULT_KEYS))}"
        )
    if isinstance(extractor, str) and extractor not in EXTRACTORS:
        raise ValueError(
            f"extractor={extractor!r}: no such extractor; give a function, or one of "
            f"{', '.join(EXTRACTORS)}"
        )
    if extractor is None and grader is None:
        raise ValueError(f"judge={name!r}: does nothing; give an extractor, a grader or both")
    if isinstance(extractor, str):
        extract, key = EXTRACTORS[extractor], extractor
    else:
        extract, key = extractor or _whole_response, None
    JUDGES[name] = Judge(
        extract=extract,
        grade=grader or _exact,
        extractor=key,
        is_isolated=True,
        plugin=current() or getattr(grader or extractor, "__module__", None),
    )


def _whole_response(response: str) -> str:
    return response


def judge_named(name: str) -> Judge:
    """Returns the judge of that name; ValueError with the choices if there is none."""
    if name not in JUDGES:
        raise ValueError(f"judge={name!r}: no such judge; {choices()}")
    return JUDGES[name]


def choices() -> str:
    """Returns the fix for an unknown judge: the names of all judges, and how to add one."""
    return f"choose from {', '.join(JUDGES)}, or list the file that registers it in plugins"


def is_isolated(name: str) -> bool:
    """Returns True for a judge that may loop or crash: call it where it can be killed."""
    return judge_named(name).is_isolated


def judge(name: str, response: str, gold: Gold) -> Judged:
    """Returns the verdict on a response: for our judges a function of the arguments alone.

    An exact judge takes milliseconds on any input. An isolated one may loop, or end the process by
    recursion or memory: use a `GradingPool`. Answers longer than `MAX_ANSWER_CHARS` match only a
    gold answer of the same text.

    Raises:
        TypeError: a user's function returned something else than its contract says.
    """
    chosen = judge_named(name)
    answer = chosen.extract(response)
    if not isinstance(answer, str | None):
        raise TypeError(
            f"judge={name!r}: the extractor returned {answer!r:.80}; return str or None"
        )
    if answer is None or not answer.strip():
        return Judged(verdict="no_answer", answer=None)
    graded = chosen.grade(answer, gold)
    if isinstance(graded, bool):
        graded = "right" if graded else "wrong"
    elif graded not in get_args(Verdict):
        raise TypeError(
            f"judge={name!r}: the grader returned {graded!r:.80}; return a bool or one of "
            f"{', '.join(get_args(Verdict))}"
        )
    return Judged(verdict=graded, answer=answer)
