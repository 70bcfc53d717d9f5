"""The doctor's words as aligned text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from tinylora_rl.planning.finding import Finding, Verdict

WIDTH = 110  # of a line; a path or a word longer than that is not broken


def plan_lines(rows: Iterable[tuple[str, str]]) -> list[str]:
    """`what            what is going to happen`, as a run's own opening has it."""
    return [line for label, text in rows for line in _entry(f"{label:<18}", text)]


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """`verdict  subject  what is so`, in the order in which the checks were made."""
    width = max((len(finding.subject) for finding in findings), default=0)
    return [
        line
        for finding in findings
        for line in _entry(f"{finding.verdict:<6}{finding.subject:<{width}}  ", finding.detail)
    ]


def verdict_line(findings: Sequence[Finding]) -> str:
    """Counts the checks and their verdicts."""
    counts = {
        verdict: sum(finding.verdict is verdict for finding in findings) for verdict in Verdict
    }
    line = f"{len(findings)} checks: {counts[Verdict.PASS]} passed"
    if counts[Verdict.WARN]:
        line += f", {counts[Verdict.WARN]} to look at"
    if counts[Verdict.FAIL]:
        line += f", {counts[Verdict.FAIL]} failed"
    return line


def as_gib(num_bytes: float) -> str:
    """`52 B`, `1.2 MiB`, `14.2 GiB`: bytes for the eye."""
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
