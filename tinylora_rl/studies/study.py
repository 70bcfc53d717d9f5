"""Compares runs of one task: variants, chosen learning rates, means with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from tinylora_rl.errors import ConfigError
from tinylora_rl.evaluation.intervals import Estimate
from tinylora_rl.studies.evaluations import Evaluation
from tinylora_rl.studies.paper import PaperPoint, matching_points
from tinylora_rl.studies.records import RunRecord
from tinylora_rl.studies.seeds import over_seeds
from tinylora_rl.studies.selection import Choice, choose_rate
from tinylora_rl.studies.variants import Variant, variants_of

UNFINISHED = ("running", "stopped", "failed")
RECOVERED = 0.9  # the paper's share: "90 % of performance improvements"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One row: a variant at its chosen learning rate.

    Attributes:
        runs: the reported ones, one a seed.
        accuracy: mean of their last held-out accuracies.
        paper: the paper's accuracies for this model, benchmark, algorithm and size.
    """

    variant: Variant
    choice: Choice
    runs: tuple[RunRecord, ...]
    accuracy: Estimate
    paper: tuple[PaperPoint, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """The content of the tables, figures and pages of one report.

    Attributes:
        held_out: the name of the accuracy that counts; others: those measured besides.
        untrained: {model: accuracy at step 0}.
        left_out: runs that do not count, each with the reason.
        notes: sentences that belong under every table.
    """

    task: str
    benchmark: str
    held_out: str
    others: tuple[str, ...]
    results: tuple[Result, ...]
    untrained: dict[str, Estimate]
    runs: tuple[RunRecord, ...]
    left_out: dict[str, str]
    evaluations: tuple[Evaluation, ...]
    notes: tuple[str, ...]

    def gain(self, result: Result) -> float | None:
        """Returns accuracy minus the untrained model's; None where that was not measured."""
        base = self.untrained.get(result.variant.model)
        return None if base is None else result.accuracy.value - base.value


def build_study(
    runs: Sequence[RunRecord],
    evaluations: Sequence[Evaluation] = (),
    *,
    held_out: str | None = None,
    select_on: Sequence[str] | None = None,
    unfinished: bool = False,
) -> Study:
    """Builds a study of `runs`.

    Args:
        held_out: name of the accuracy that counts; None: the greedy one, else the first.
        select_on: seeds that choose the learning rates; the others are reported then.
        unfinished: count runs that did not finish, too, with their last accuracy.

    Raises:
        ConfigError: the runs measure different tasks, or there is no such accuracy or seed.
    """
    tasks = sorted({run.task for run in runs})
    if len(tasks) > 1:
        raise ConfigError(f"runs measure {len(tasks)} tasks, {'; '.join(tasks)}: report each alone")
    names = list(dict.fromkeys(name for run in runs for name in run.accuracies()))
    name = _held_out(names, held_out) if runs else ""
    counted, left_out = _counted(runs, name, unfinished)
    notes = []
    results = []
    lost = [run for run in runs if run.state in UNFINISHED and run.learning_rate is not None]
    for variant in variants_of([run for run in runs if run in counted or run in lost]):
        variant = _without_repeats(variant, counted, left_out)
        if (result := _result(variant, name, select_on, left_out)) is not None:
            results.append(result)
            notes += [
                f"{variant.algorithm} {variant.label}: {note}." for note in result.choice.notes
            ]
    if silent := [run.name for run in counted if run.state == "unknown"]:
        notes.append(f"Without a status, taken as finished: {', '.join(silent)}.")
    for run in counted:
        last = run.accuracies()[name][-1][0]
        if last < run.num_steps:
            notes.append(f"{run.name}: accuracy of step {last}, the run went to {run.num_steps}.")
    sizes = {run.num_items[name] for run in counted if name in run.num_items}
    if len(sizes) > 1:
        notes.append(
            f"Held-out sets differ in size ({', '.join(map(str, sorted(sizes)))} questions): rows "
            "are not measured on the same questions."
        )
    study = Study(
        task=tasks[0] if tasks else "",
        benchmark=runs[0].benchmark if runs else "",
        held_out=name,
        others=tuple(other for other in names if other != name),
        results=tuple(results),
        untrained=_untrained(counted, name),
        runs=tuple(runs),
        left_out=left_out,
        evaluations=tuple(evaluations),
        notes=tuple(notes),
    )
    return dataclasses.replace(study, notes=(*study.notes, *_recovery(study)))


def _held_out(names: list[str], wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in names:
            raise ConfigError(
                f"held_out={wanted}: not measured; there are {', '.join(names) or 'none'}"
            )
        return wanted
    if not names:
        raise ConfigError("no run has a held-out accuracy; train with trainer.test_freq > 0")
    return next((name for name in names if name.endswith("greedy")), names[0])


def _counted(
    runs: Sequence[RunRecord], name: str, unfinished: bool
) -> tuple[list[RunRecord], dict[str, str]]:
    counted, left_out = [], {}
    for run in runs:
        after = [step for step, _ in run.accuracies().get(name, []) if step > 0]
        if run.state in UNFINISHED and not unfinished:
            left_out[run.name] = f"{run.state} at step {run.num_steps}"
        elif not after:
            left_out[run.name] = f"no held-out accuracy ({name}) after training"
        elif run.learning_rate is None:
            left_out[run.name] = "no learning rate in its configuration"
        else:
            counted.append(run)
    return counted, left_out


def _without_repeats(
    variant: Variant, counted: list[RunRecord], left_out: dict[str, str]
) -> Variant:
    """Keeps the last of runs with one learning rate and seed: most sweeps name runs by time."""
    kept: dict[tuple[float | None, str], RunRecord] = {}
    for run in variant.runs:
        if run.name in left_out:
            continue
        if (point := _point(run)) in kept:
            left_out[kept[point].name] = f"repeated by {run.name}"
            counted.remove(kept[point])
        kept[point] = run
    lost = [run for run in variant.runs if run.name in left_out and _point(run) not in kept]
    return dataclasses.replace(variant, runs=(*kept.values(), *lost))


def _point(run: RunRecord) -> tuple[float | None, str]:
    return run.learning_rate, run.seed


def _result(
    variant: Variant, name: str, select_on: Sequence[str] | None, left_out: dict[str, str]
) -> Result | None:
    """Returns None where no run of `variant` counts."""
    ended = [run for run in variant.runs if run.name not in left_out]
    if not ended:
        return None
    accuracies: dict[float, dict[str, float]] = {}
    for run in ended:
        accuracies.setdefault(run.learning_rate or 0.0, {})[run.seed] = run.last_accuracy(name)
    lost = {run.learning_rate or 0.0 for run in variant.runs if run.name in left_out}
    try:
        choice = choose_rate(accuracies, select_on, lost)
    except ValueError as error:
        raise ConfigError(f"{variant.algorithm} {variant.label}: {error}") from error
    reported = tuple(
        run
        for run in ended
        if run.learning_rate == choice.learning_rate and run.seed in choice.reported_on
    )
    num_items = next((run.num_items[name] for run in reported if name in run.num_items), None)
    points = matching_points(
        model=variant.model,
        benchmark=reported[0].benchmark,
        algorithm=variant.algorithm,
        kind=variant.kind,
        num_parameters=variant.num_parameters,
        adapter=variant.adapter,
    )
    return Result(
        variant=dataclasses.replace(variant, runs=tuple(ended)),
        choice=choice,
        runs=reported,
        accuracy=over_seeds([run.last_accuracy(name) for run in reported], num_items),
        paper=points if variant.control is None else (),
    )


def _untrained(runs: Sequence[RunRecord], name: str) -> dict[str, Estimate]:
    """Averages step 0 of all runs of a model: one model, so the interval is of the questions."""
    found: dict[str, list[float]] = {}
    items: dict[str, int] = {}
    for run in runs:
        first_step, accuracy = run.accuracies()[name][0]
        if first_step == 0:
            found.setdefault(run.model, []).append(accuracy)
            items[run.model] = max(items.get(run.model, 0), run.num_items.get(name, 0))
    return {
        model: over_seeds([sum(values) / len(values)], items[model] or None)
        for model, values in found.items()
    }


def _recovery(study: Study) -> Iterator[str]:
    """States the smallest size of each algorithm with 90 % of the largest gain, as the paper."""
    for model in study.untrained:
        gains = [
            (result.variant.algorithm, result.variant.num_parameters, study.gain(result) or 0.0)
            for result in study.results
            if result.variant.model == model
            and result.variant.control is None
            and result.variant.num_parameters is not None
        ]
        most = max((gain for *_, gain in gains), default=0.0)
        if len(gains) < 2 or most <= 0:
            continue
        parts = []
        for algorithm in dict.fromkeys(algorithm for algorithm, *_ in gains):
            enough = [
                count or 0
                for of, count, gain in gains
                if of == algorithm and gain >= RECOVERED * most
            ]
            size = f"{min(enough):,} numbers" if enough else "no size"
            parts.append(f"{algorithm} with {size}")
        yield (
            f"{RECOVERED:.0%} of the largest gain over the untrained {model} "
            f"({100 * most:+.1f} points) is reached by {' and by '.join(parts)} of those tried."
        )
