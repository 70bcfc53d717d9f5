"""Plans a sweep (the points that are left, and their cost), and reports its outcome."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from tinylora_rl.errors import EXIT_FAILED, EXIT_SIGNAL
from tinylora_rl.planning.cost import Cost, estimate
from tinylora_rl.runs.console import progress_line
from tinylora_rl.runs.directory import RunDirectory, read_metrics
from tinylora_rl.runs.status import Status, is_active, read_status
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.sweeps.jobs import last_words
from tinylora_rl.sweeps.points import Point, point_name, quoted, short_names

SAME_COST_KEYS = ("seed=", "actor_rollout_ref.actor.optim.lr=", "optim.lr=")
MAX_ASSUMPTIONS = 4  # lines; a study over many models has one for each


@dataclasses.dataclass(frozen=True)
class Planned:
    """A point and what is in its folder.

    Attributes:
        overrides: of the point, `run.dir` among them.
        is_active: a process is writing into its folder at this moment.
    """

    name: str
    overrides: Point
    directory: Path
    status: Status | None
    is_active: bool

    @property
    def is_finished(self) -> bool:
        return self.status is not None and self.status.is_finished

    @property
    def is_to_do(self) -> bool:
        return not self.is_finished and not self.is_active


@dataclasses.dataclass(frozen=True)
class Plan:
    folder: Path
    points: Sequence[Planned]

    @property
    def to_do(self) -> list[Planned]:
        return [point for point in self.points if point.is_to_do]


def make_plan(points: Iterable[Point], folder: Path, recipe: str | None) -> Plan:
    """Plans each point with its folder in `folder`.

    Args:
        recipe: the one that `folder` is named after; its points do not repeat it.
    """
    planned = []
    for point in points:
        name = point_name(point, without_recipe=recipe is not None)
        directory = folder / name
        planned.append(
            Planned(
                name=name,
                overrides=(*point, f"run.dir={quoted(str(directory))}"),
                directory=directory,
                status=read_status(directory),
                is_active=is_active(directory),
            )
        )
    return Plan(folder=folder, points=planned)


def costs(
    plan: Plan, compose: Callable[[Sequence[str]], Experiment]
) -> list[tuple[Planned, Cost | None]]:
    """Estimates the cost of every point that is to do.

    Points that differ in seed and learning rate alone cost the same: one of them is composed.
    """
    known: dict[frozenset[str], Cost | None] = {}
    found = []
    for point in plan.to_do:
        key = frozenset(
            override
            for override in point.overrides
            if not override.lstrip("+").startswith((*SAME_COST_KEYS, "run.dir="))
        )
        if key not in known:
            known[key] = estimate(compose(point.overrides))
        found.append((point, known[key]))
    return found


def opening(plan: Plan, estimated: Sequence[tuple[Planned, Cost | None]]) -> list[str]:
    """Describes the points, those left, and the time that they are going to take."""
    num_finished = sum(point.is_finished for point in plan.points)
    num_active = len(plan.points) - num_finished - len(plan.to_do)
    num_begun = sum(point.status is not None for point in plan.to_do)
    lines = [
        f"sweep             {len(plan.points)} runs: {num_finished} finished, "
        + (f"{num_active} running elsewhere, " if num_active else "")
        + f"{len(plan.to_do)} to do"
        + (f", {num_begun} of them begun" if num_begun else ""),
        f"folder            {plan.folder}",
    ]
    hours: dict[str, float] = {}
    assumptions: Counter[str] = Counter()
    num_unknown = 0
    for point, cost in estimated:
        if cost is None:
            num_unknown += 1
            continue
        begun = min(1.0, point.status.steps / cost.steps) if point.status else 0.0
        hours[cost.unit] = hours.get(cost.unit, 0.0) + cost.hours * (1 - begun)
        assumptions[cost.assumption] += 1
    for unit, total in hours.items():
        lines.append(f"estimate          about {_in_words(total, unit)}, assuming")
    for assumption, count in assumptions.most_common(MAX_ASSUMPTIONS):
        lines.append(f"                  {assumption} ({count} runs)")
    if len(assumptions) > MAX_ASSUMPTIONS:
        lines.append(f"                  and {len(assumptions) - MAX_ASSUMPTIONS} more")
    if num_unknown:
        lines.append(
            f"                  and {num_unknown} runs of models whose size is not known; state "
            "cost.num_parameters"
        )
    return lines


def _in_words(hours: float, unit: str) -> str:
    if hours < 1:
        return f"{hours * 60:.0f} {unit.replace('hours', 'minutes')}"
    return f"{hours:,.1f} {unit}" if hours < 10 else f"{hours:,.0f} {unit}"


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
    """Returns 0 if every point is finished, 1 if at least one failed, 75 if some are left."""
    outcomes = {outcome_of(point, codes.get(point.directory)) for point in plan.points}
    if "failed" in outcomes:
        return EXIT_FAILED
    return 0 if outcomes <= {"finished"} else EXIT_SIGNAL


def closing_table(plan: Plan, codes: Mapping[Path, int]) -> list[str]:
    """Writes a line for every point that was begun: outcome and last measurement."""
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
