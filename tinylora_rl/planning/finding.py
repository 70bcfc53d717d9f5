"""Findings of checks: a verdict, a subject, and one line with the fix."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Iterable

from tinylora_rl.errors import EXIT_CONFIG, ConfigError, MachineError


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


def outcome(subject: str, check: Callable[[], object], detail: str = "") -> Finding:
    """Runs `check`, which may raise one of our errors; a pass has what it returns, or `detail`."""
    try:
        returned = check()
    except (ConfigError, MachineError) as error:
        return failed(subject, error)
    return passed(subject, returned if isinstance(returned, str) else detail)


def exit_code(findings: Iterable[Finding]) -> int:
    """0 nothing failed, 2 the configuration did (whatever else), 3 the machine alone."""
    codes = {finding.exit_code for finding in findings} - {0}
    return EXIT_CONFIG if EXIT_CONFIG in codes else max(codes, default=0)


def failures(subject: str, checks: Iterable[Callable[[], object]]) -> list[Finding]:
    """The failures among `checks`; nothing of those that pass."""
    found = (outcome(subject, check) for check in checks)
    return [finding for finding in found if finding.verdict is Verdict.FAIL]
