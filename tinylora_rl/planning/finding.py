"""Findings of checks: a verdict, a subject and one line with the fix; and their table."""

from __future__ import annotations

import dataclasses
import enum
import textwrap
from collections.abc import Callable, Iterable, Sequence

from tinylora_rl.errors import EXIT_CONFIG, ConfigError, MachineError

WIDTH = 110  # of a line; a path or a word longer than that is not broken


class Verdict(enum.StrEnum):
    """`fail`: the run cannot work as it is. `warn`: it may, and something is not as tested."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the doctor's table.

    Attributes:
        subject: a word or two: the left column.
        detail: the fact; of a warning and a failure with the fix at its end.
        exit_code: what the command ends with for it; 0 unless it failed.
    """

    verdict: Verdict
    subject: str
    detail: str
    exit_code: int = 0


def passed(subject: str, detail: str) -> Finding:
    return Finding(verdict=Verdict.PASS, subject=subject, detail=detail)


def warned(subject: str, detail: str) -> Finding:
    return Finding(verdict=Verdict.WARN, subject=subject, detail=detail)


def failed(subject: str, error: ConfigError | MachineError) -> Finding:
    return Finding(
        verdict=Verdict.FAIL, subject=subject, detail=str(error), exit_code=error.exit_code
    )


def machine_failed(subject: str, message: str) -> Finding:
    return failed(subject, MachineError(message))


def outcome(subject: str, check: Callable[[], object], detail: str = "") -> Finding:
    """Runs `check`, which may raise one of our errors; a pass has what it returns, or `detail`."""
    try:
        returned = check()
    except (ConfigError, MachineError) as error:
        return failed(subject, error)
    return passed(subject, returned if isinstance(returned, str) else detail)


def failures(subject: str, checks: Iterable[Callable[[], object]]) -> list[Finding]:
    """Returns the failures among `checks`; nothing of those that pass."""
    found = (outcome(subject, check) for check in checks)
    return [finding for finding in found if finding.verdict is Verdict.FAIL]


def code_of(findings: Iterable[Finding]) -> int:
    """Returns 0 if nothing failed, 2 if the configuration did (whatever else), 3 the machine."""
    codes = {finding.exit_code for finding in findings} - {0}
    return EXIT_CONFIG if EXIT_CONFIG in codes else max(codes, default=0)


def plan_lines(rows: Iterable[tuple[str, str]]) -> list[str]:
    """Aligns labels and texts as a run's own opening does."""
    return [line for label, text in rows for line in _entry(f"{label:<18}", text)]


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Aligns verdict, subject and detail, in the order in which the checks were made."""
    width = max((len(finding.subject) for finding in findings), default=0)
    return [
        line
        for finding in findings
        for line in _entry(f"{finding.verdict:<6}{finding.subject:<{width}}  ", finding.detail)
    ]


def verdict_line(findings: Sequence[Finding]) -> str:
    """Counts the checks and their verdicts."""
    words = {Verdict.PASS: "passed", Verdict.WARN: "to look at", Verdict.FAIL: "failed"}
    counts = {each: sum(finding.verdict is each for finding in findings) for each in words}
    named = [
        f"{count} {words[each]}" for each, count in counts.items() if count or each is Verdict.PASS
    ]
    return f"{len(findings)} checks: {', '.join(named)}"


def as_gib(num_bytes: float) -> str:
    """Writes bytes for the eye: `52 B`, `1.2 MiB`, `14.2 GiB`."""
    if num_bytes < 1024:
        return f"{num_bytes:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        num_bytes /= 1024
        if num_bytes < 1000 or unit == "GiB":
            break
    return f"{num_bytes:.1f} {unit}" if num_bytes < 100 else f"{num_bytes:,.0f} {unit}"


def _entry(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,
        break_on_hyphens=False,
    ) or [label.rstrip()]
