"""Renders the page of one run: its facts, diagnoses of its metrics, all panels."""

from __future__ import annotations

from tinylora_rl.studies.dashboard import SECTIONS, Panel
from tinylora_rl.studies.diagnostics import Severity, diagnose
from tinylora_rl.studies.html_parts import (
    badge,
    colour_legend,
    diagnoses_list,
    document,
    facts,
    link,
    panel,
    text,
)
from tinylora_rl.studies.records import RunRecord, State, setting
from tinylora_rl.studies.size import NAMES, bytes_text, count_text
from tinylora_rl.studies.svg import NUM_COLOURS, Chart, Line
from tinylora_rl.studies.variants import ALGORITHMS

STATE_SEVERITY: dict[State, Severity] = {
    "finished": "good",
    "running": "warning",
    "stopped": "warning",
    "unknown": "warning",
    "failed": "error",
}
MAX_LINES = 32  # of one panel: more lines of v cover each other


def run_page(run: RunRecord, *, back: str) -> str:
    """Renders the page of `run`; `back` is the address of the study's page."""
    body = [
        f"<nav>{link(back, 'all runs')}</nav>",
        f"<h1>{text(run.name)} {state_badge(run)}</h1>",
        facts(_facts(run)),
        f'<p class="soft">{text(_adapter(run))}</p>',
        f'<p class="soft">{text(run.source)}</p>',
        "<h2>In words</h2>",
        diagnoses_list(("", found) for found in diagnose(run)),
    ]
    names = {name for row in run.metrics for name in row}
    for title, section in SECTIONS.items():
        panels = [drawn for one in section if (drawn := _panel(run, one, names))]
        if panels:
            body.append(f"<h2>{text(title)}</h2>")
            body.append(f'<div class="grid">{"".join(panels)}</div>')
    return document(run.name, body)


def state_badge(run: RunRecord) -> str:
    return badge(STATE_SEVERITY[run.state], run.state)


def _facts(run: RunRecord) -> list[tuple[str, object]]:
    accuracies = run.accuracies()
    rate = run.learning_rate
    size = run.size
    planned = setting(run.config, "trainer.total_training_steps")
    return [
        ("method", ALGORITHMS.get(run.command, run.command)),
        ("task", run.task),
        ("model", run.model),
        ("trained", NAMES.get(size.kind, size.kind)),
        ("numbers", count_text(size.num_parameters)),
        ("bytes", bytes_text(size.num_bytes)),
        ("learning rate", "?" if rate is None else f"{rate:g}"),
        ("seed", run.seed),
        ("steps", f"{run.num_steps} of {planned or '?'}"),
        *(
            (f"held-out {name}", f"{points[0][1]:.3f} → {points[-1][1]:.3f}")
            for name, points in accuracies.items()
        ),
    ]


def _adapter(run: RunRecord) -> str:
    adapter = run.config.get("adapter") or {}
    shown = ("r", "u", "n_tie", "tie_mode", "projection", "v_dtype", "alpha", "seed")
    return ", ".join(f"{key} {adapter[key]}" for key in shown if adapter.get(key) is not None)


def _panel(run: RunRecord, one: Panel, names: set[str]) -> str:
    found = {name: label for name, label in one.found_in(names).items() if run.series(name)}
    if not found:
        return ""
    shown = dict(list(found.items())[:MAX_LINES])
    lines = [
        Line(label=label or one.title, points=run.series(name), colour=index, faint=len(shown) > 8)
        for index, (name, label) in enumerate(shown.items())
    ]
    caption = one.caption
    if len(found) > len(shown):
        caption += f" The first {len(shown)} of {len(found)}."
    legend = ""
    if 1 < len(lines) <= NUM_COLOURS:
        legend = colour_legend((line.label, line.colour) for line in lines)
    chart = Chart(lines=lines, name=one.title, limits=one.limits, log_y=one.log)
    return panel(one.title, caption, chart, unit=one.unit, legend=legend)
