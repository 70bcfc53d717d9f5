"""Reports the outcome of a sweep, in a table and in one exit code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tinylora_rl.errors import EXIT_FAILED, EXIT_SIGNAL
from tinylora_rl.runs.console import progress_line
from tinylora_rl.runs.directory import RunDirectory, read_metrics
from tinylora_rl.sweeps.jobs import last_words
from tinylora_rl.sweeps.plan import Plan, Planned
from tinylora_rl.sweeps.points import short_names

Outcome = Literal["finished", "failed", "stopped", "interrupted", "running elsewhere", "not begun"]


def outcome_of(point: Planned, code: int | None = None) -> Outcome:
    """Reads the outcome of `point` from its folder, and the exit code where it was run just now."""
    if code not in (None, 0, EXIT_SIGNAL):
        return "failed"
    if point.status is None:
        return "not begun"
    if point.status.state == "running":
        return "running elsewhere" if point.is_active else "interrupted"
    return point.status.state


def exit_code(plan: Plan, codes: Mapping[Path, int]) -> int:
    """0 every point is finished, 1 at least one failed, 75 some are left."""
    outcomes = {outcome_of(point, codes.get(point.directory)) for point in plan.points}
    if "failed" in outcomes:
        return EXIT_FAILED
    return 0 if outcomes <= {"finished"} else EXIT_SIGNAL


def closing_table(plan: Plan, codes: Mapping[Path, int]) -> list[str]:
    """A line for every point that was begun: its outcome and the last thing it measured."""
    names = short_names([point.name for point in plan.points])
    width = max(map(len, names), default=0)
    lines = []
    for name, point in zip(names, plan.points, strict=True):
        code = codes.get(point.directory)
        outcome = outcome_of(point, code)
        if outcome == "not begun":
            continue
        lines.append(f"{name:<{width}}  {outcome:<18}{_last_line(point, code, outcome)}".rstrip())
    counts = [outcome_of(point, codes.get(point.directory)) for point in plan.points]
    summary = ", ".join(f"{counts.count(each)} {each}" for each in dict.fromkeys(counts))
    if set(counts) - {"finished"}:
        summary += "; the same command continues"
    if lines:
        lines = ["", *lines]
    return [*lines, "", f"sweep             {summary}", f"folder            {plan.folder}"]


def _last_line(point: Planned, code: int | None, outcome: Outcome) -> str:
    if outcome == "failed":
        shown = code if code is not None else point.status.exit_code if point.status else None
        return f"exit code {shown}: {last_words(point.directory) or point.directory}"
    rows = read_metrics(RunDirectory(point.directory).metrics)
    total = point.status.total_steps if point.status else None
    return progress_line(rows[-1], total) if rows else ""
