"""Renders the page of a study: size sweep, table, diagnoses, rates, dashboard, every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinylora_rl.studies.curves import best_at_each_size, curves_of, mean_series, sized_results
from tinylora_rl.studies.dashboard import SECTIONS
from tinylora_rl.studies.diagnostics import NOTHING_CONSPICUOUS, Diagnosis, diagnose
from tinylora_rl.studies.html_parts import (
    badge,
    colour_legend,
    diagnoses_list,
    document,
    link,
    panel,
    table,
    text,
)
from tinylora_rl.studies.paper import PaperPoint
from tinylora_rl.studies.records import RunRecord
from tinylora_rl.studies.run_page import state_badge
from tinylora_rl.studies.seeds import whisker
from tinylora_rl.studies.size import count_text
from tinylora_rl.studies.study import Result, Study
from tinylora_rl.studies.svg import NUM_COLOURS, Chart, Line
from tinylora_rl.studies.tables import HEADER, footnotes, table_rows

RIGHT = (2, 3, 7)  # numbers, bytes, gain
RUNS_HEADER = (
    "run", "state", "counts", "numbers", "learning rate", "seed", "accuracy, %", "diagnosis",
)  # fmt: skip


def study_page(study: Study, run_pages: Mapping[str, str]) -> str:
    """Renders the page of `study`; `run_pages` are {name of a run: address of its page}."""
    diagnoses = {run.name: diagnose(run) for run in study.runs}
    body = [
        f"<h1>{text(study.task)}</h1>",
        f'<p class="soft">Held-out {text(study.held_out)} accuracy of {len(study.runs)} runs in '
        f"{len(study.results)} sizes.</p>",
        *(f"<p>{text(note)}</p>" for note in study.notes),
        *_size_sweep(study),
        "<h2>Results</h2>",
        table(HEADER, [[text(cell) for cell in row] for row in table_rows(study)], RIGHT),
        *(f'<p class="soft">{text(line)}</p>' for line in footnotes(study) if line),
        *_in_words(study, diagnoses),
        *_selection(study),
        *_dashboard(study),
        "<h2>Runs</h2>",
        _runs(study, diagnoses, run_pages),
    ]
    return document(f"{study.task}: report", body)


def _size_sweep(study: Study) -> list[str]:
    curves = curves_of(sized_results(study))
    if not curves:
        return []
    lines = []
    for colour, results in enumerate(curves.values()):
        joined = best_at_each_size(results)
        lines.append(_curve(joined, colour))
        lines += [_curve([result], colour) for result in results if result not in joined]
    points = dict.fromkeys(point for result in study.results for point in result.paper)
    lines += [_paper_line(point) for point in points if point.num_parameters]
    chart = Chart(
        lines=lines,
        name="accuracy over the number of trained parameters",
        levels={f"untrained {model}": 100 * base.value for model, base in study.untrained.items()},
        log_x=True,
        width=480,
        height=260,
    )
    legend = colour_legend(
        [(name, colour) for colour, name in enumerate(curves)],
        rings=["the paper"] if points else [],
    )
    caption = (
        "Over the numbers trained, each size at its chosen learning rate, with intervals. Dashed: "
        "the untrained model."
    )
    drawn = panel("Accuracy over size", caption, chart, unit="%", legend=legend)
    return [drawn.replace("<figure>", '<figure class="wide">', 1)]


def _curve(results: Sequence[Result], colour: int) -> Line:
    return Line(
        label=results[0].variant.algorithm,
        points=[(r.variant.num_parameters or 0, 100 * r.accuracy.value) for r in results],
        intervals=[(100 * low, 100 * high) for low, high in (whisker(r.accuracy) for r in results)],
        point_labels=[r.variant.name for r in results],
        colour=colour,
        marked=True,
    )


def _paper_line(point: PaperPoint) -> Line:
    return Line(
        label=f"paper, {point.source}, {point.mark}",
        points=[(point.num_parameters or 0, 100 * point.accuracy)],
        colour=0 if point.algorithm == "GRPO" else 1,
        marked=True,
        hollow=True,
    )


def _in_words(study: Study, diagnoses: Mapping[str, Sequence[Diagnosis]]) -> list[str]:
    """Lists the diagnoses of the reported runs; the pages of runs list the rest."""
    entries = [
        (f"{result.variant.name}, seed {run.seed}:", found)
        for result in study.results
        for run in result.runs
        for found in diagnoses[run.name]
        if found.severity != "good"
    ]
    entries.sort(key=lambda entry: entry[1].severity != "error")
    return ["<h2>In words</h2>", diagnoses_list(entries or [("", NOTHING_CONSPICUOUS)])]


def _selection(study: Study) -> list[str]:
    panels = []
    for result in study.results:
        means = result.choice.means
        if len(means) < 2:
            continue
        colour = 0 if result.variant.algorithm == "GRPO" else 1
        runs = [
            Line(
                label=f"seed {run.seed}",
                points=[(run.learning_rate or 0, 100 * run.last_accuracy(study.held_out))],
                colour=7,
            )
            for run in result.variant.runs
        ]
        mean = Line(
            label="mean",
            points=[(rate, 100 * value) for rate, value in means.items()],
            colour=colour,
        )
        chosen = result.choice.learning_rate
        ring = Line(
            label="chosen",
            points=[(chosen, 100 * means[chosen])],
            colour=colour,
            marked=True,
            hollow=True,
        )
        base = study.untrained.get(result.variant.model)
        chart = Chart(
            lines=[*runs, mean, ring],
            name=f"accuracy over learning rate, {result.variant.name}",
            levels={"untrained": 100 * base.value} if base else {},
            log_x=True,
            height=150,
        )
        edge = f" At the {result.choice.edge} end of the rates." if result.choice.edge else ""
        notes = "".join(f" {note.capitalize()}." for note in result.choice.notes)
        panels.append(
            panel(result.variant.name, f"Chosen: {chosen:g}.{edge}{notes}", chart, unit="%")
        )
    if not panels:
        return []
    return ["<h2>Learning rates</h2>", f'<div class="grid">{"".join(panels)}</div>']


def _dashboard(study: Study) -> list[str]:
    """Renders, for each algorithm, the first metric of every panel with a line a size."""
    body = []
    for algorithm in dict.fromkeys(result.variant.algorithm for result in study.results):
        everyone = [result for result in study.results if result.variant.algorithm == algorithm]
        shown = _spread(everyone)
        colours = {id(result): index for index, result in enumerate(shown)}
        body.append(f"<h2>{text(algorithm)} over the steps</h2>")
        note = "Thick: the mean over seeds; pale: each seed."
        if len(shown) < len(everyone):
            note += f" {len(shown)} of {len(everyone)} sizes; the others are on their runs' pages."
        body.append(f'<p class="soft">{note}</p>')
        body.append(colour_legend((result.variant.name, colours[id(result)]) for result in shown))
        panels = []
        for one in (one for section in SECTIONS.values() for one in section):
            for metric, label in list(one.metrics.items())[:1]:
                lines = [line for r in shown for line in _seeds(r, metric, colours[id(r)])]
                if lines:
                    chart = Chart(lines=lines, name=one.title, limits=one.limits, log_y=one.log)
                    several = label if len(one.metrics) > 1 else ""
                    unit = ", ".join(part for part in (several, one.unit) if part)
                    panels.append(panel(one.title, one.caption, chart, unit=unit))
        body.append(f'<div class="grid">{"".join(panels)}</div>')
    return body


def _seeds(result: Result, metric: str, colour: int) -> list[Line]:
    name = result.variant.name
    series = {run.seed: points for run in result.runs if (points := run.series(metric))}
    lines = [
        Line(label=f"{name}, seed {seed}", points=points, colour=colour, faint=True)
        for seed, points in series.items()
        if len(series) > 1
    ]
    mean = mean_series(result.runs, metric)
    return [*lines, Line(label=name, points=mean, colour=colour)] if mean else lines


def _spread(results: list[Result]) -> list[Result]:
    """Returns at most as many as there are colours, evenly over the sizes, with both ends."""
    if len(results) <= NUM_COLOURS:
        return results
    last = len(results) - 1
    return [results[round(index * last / (NUM_COLOURS - 1))] for index in range(NUM_COLOURS)]


def _runs(
    study: Study, diagnoses: Mapping[str, Sequence[Diagnosis]], run_pages: Mapping[str, str]
) -> str:
    reported = {run.name for result in study.results for run in result.runs}
    rows = []
    for run in study.runs:
        points = run.accuracies().get(study.held_out, [])
        worst = diagnoses[run.name][0]
        rate = run.learning_rate
        rows.append(
            [
                link(run_pages[run.name], run.name),
                state_badge(run),
                _counts(run, reported, study.left_out),
                count_text(run.size.num_parameters),
                "?" if rate is None else f"{rate:g}",
                text(run.seed),
                f"{100 * points[-1][1]:.1f}" if points else "",
                badge(worst.severity, worst.rule.replace("_", " ")),
            ]
        )
    return table(RUNS_HEADER, rows, right=(3, 4, 6))


def _counts(run: RunRecord, reported: set[str], left_out: Mapping[str, str]) -> str:
    if run.name in left_out:
        return f"no: {text(left_out[run.name])}"
    return "reported" if run.name in reported else "in the selection"
