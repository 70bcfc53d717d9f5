"""Writes the summary of a run: the trained numbers, their effect, the files."""

from __future__ import annotations

import json

from tinylora_rl.runs.directory import RunDirectory, read_metrics
from tinylora_rl.runs.metric_names import held_out

SMOOTHED_STEPS = (
    3  # "before" and "after" are means over this many steps at either end, at most half the run
)


def closing_summary(run: RunDirectory) -> list[str]:
    """Returns the lines of the summary, as far as the run got; none without a step."""
    rows = read_metrics(run.metrics)
    trained = [row for row in rows if "critic/score/mean" in row]
    lines = []
    if (run.adapter / "manifest.json").is_file():
        manifest = json.loads((run.adapter / "manifest.json").read_text())
        lines.append(
            f"trained numbers   {manifest['num_parameters']} ({manifest['payload_bytes']} bytes of "
            "payload)"
        )
    if trained:
        width = max(1, min(SMOOTHED_STEPS, len(trained) // 2))
        for label, key, form in (
            ("training reward", "critic/score/mean", ".3f"),
            ("response length", "response_length/mean", ".1f"),
        ):
            before, after = (
                sum(row[key] for row in part) / width
                for part in (trained[:width], trained[-width:])
            )
            lines.append(f"{label:<18}{before:{form}} -> {after:{form}}   (means of {width} steps)")
    validated = [held_out(row) for row in rows if held_out(row)]
    for name in dict.fromkeys(name for accuracy in validated for name in accuracy):
        values = [accuracy[name] for accuracy in validated if name in accuracy]
        lines.append(f"held-out {name:<9}{values[0]:.3f} -> {values[-1]:.3f}")
    for label, path in (
        ("adapter", run.adapter),
        ("metrics", run.metrics),
        ("figure", run.figure),
        ("responses", run.samples_page),
        ("v of each step", run.vectors),
        ("checkpoints", run.checkpoints),
        ("log", run.log),
    ):
        if path.exists():
            lines.append(f"{label:<18}{path}")
    return ["", *lines] if rows else []
