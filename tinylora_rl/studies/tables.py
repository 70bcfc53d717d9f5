"""Writes a study's numbers as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io

from tinylora_rl.evaluation.intervals import Estimate
from tinylora_rl.studies.paper import PaperPoint
from tinylora_rl.studies.seeds import CONFIDENCE
from tinylora_rl.studies.size import bytes_text, count_text
from tinylora_rl.studies.study import Result, Study

HEADER = (
    "method", "trained", "numbers", "bytes", "learning rate", "seeds", "accuracy, %", "gain",
    "paper, %",
)  # fmt: skip
WILSON_MARK, NO_INTERVAL_MARK, EDGE_MARK = "†", "‡", "§"

CSV_HEADER = (
    "model", "method", "kind", "trained", "num_parameters", "num_bytes", "held_out", "accuracy",
    "low", "high", "interval", "untrained", "gain", "learning_rate", "rates_tried", "edge",
    "selected_on", "reported_on", "steps", "paper", "paper_source", "paper_mark",
)  # fmt: skip


def report_markdown(study: Study) -> str:
    """Renders the report: the table, the meaning of its marks, notes and runs left out."""
    lines = [f"# {study.task}, held-out {study.held_out}" if study.task else "# Evaluations", ""]
    if study.results:
        lines += [*markdown_table(study), "", *footnotes(study), ""]
    lines += [f"- {note}" for note in study.notes]
    if study.left_out:
        lines += ["", "Left out:", ""]
        lines += [f"- {name}: {why}" for name, why in study.left_out.items()]
    return "\n".join(lines).rstrip() + "\n"


def markdown_table(study: Study) -> list[str]:
    """Returns the lines of the table alone."""
    rows = table_rows(study)
    return [
        "| " + " | ".join(HEADER) + " |",
        "|---|---|---:|---:|---:|---|---|---:|---|",
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows),
    ]


def table_rows(study: Study) -> list[list[str]]:
    """Returns cells in the order of HEADER: each model's untrained row, then its results."""
    models = list(dict.fromkeys([*study.untrained, *(r.variant.model for r in study.results)]))
    rows = []
    for model in models:
        name = f" {model}" if len(models) > 1 else ""
        if model in study.untrained:
            accuracy = _interval(study.untrained[model])
            rows.append(["", f"untrained{name}", "0", "0", "", "", accuracy, "", ""])
        rows += [
            _row(study, result, name) for result in study.results if result.variant.model == model
        ]
    return rows


def footnotes(study: Study) -> list[str]:
    """Explains the columns, and each mark that the table bears."""
    estimates = [result.accuracy for result in study.results] + list(study.untrained.values())
    methods = {estimate.method for estimate in estimates}
    lines = [
        f"Accuracy: mean over seeds of the last held-out accuracy ({study.held_out}) with its "
        f"{CONFIDENCE:.0%} t interval. Gain: over the untrained model at step 0. {_rule(study)}"
    ]
    if "wilson" in methods:
        lines.append(
            f"{WILSON_MARK} One seed, seeds that agree, or the untrained model: Wilson's interval "
            "of the held-out questions. It does not cover another seed."
        )
    if "none" in methods:
        lines.append(f"{NO_INTERVAL_MARK} One seed, and no count of questions: no interval.")
    if any(result.choice.edge for result in study.results):
        lines.append(
            f"{EDGE_MARK} At the end of the rates tried: the best may lie beyond. Widen the grid."
        )
    if any(result.paper for result in study.results):
        lines.append(
            "Paper: arXiv 2602.04118v1, same model, benchmark, method and size; ~ is read off a "
            "figure."
        )
    return [part for line in lines for part in (line, "")][:-1]


def to_csv(study: Study) -> str:
    """Renders one line a row; shares in 0..1, lists joined by spaces."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEADER)
    for result in study.results:
        variant, choice, accuracy = result.variant, result.choice, result.accuracy
        base, gain = study.untrained.get(variant.model), study.gain(result)
        paper = result.paper[0] if result.paper else None
        writer.writerow(
            [
                variant.model,
                variant.algorithm,
                variant.kind,
                variant.label,
                variant.num_parameters,
                variant.num_bytes,
                study.held_out,
                *(f"{x:.6f}" for x in (accuracy.value, accuracy.low, accuracy.high)),
                accuracy.method,
                "" if base is None else f"{base.value:.6f}",
                "" if gain is None else f"{gain:.6f}",
                f"{choice.learning_rate:g}",
                " ".join(f"{rate:g}" for rate in choice.means),
                choice.edge or "",
                " ".join(choice.selected_on),
                " ".join(choice.reported_on),
                max(run.num_steps for run in result.runs),
                *((f"{paper.accuracy:.3f}", paper.source, paper.mark) if paper else ("", "", "")),
            ]
        )
    return out.getvalue()


def to_latex(study: Study) -> str:
    """Renders a booktabs table with its notes, ready for `\\input`."""
    body = [" & ".join(_tex(cell) for cell in row) + r" \\" for row in table_rows(study)]
    notes = [_tex(line) for line in footnotes(study) if line]
    return "\n".join(
        [
            f"% {study.task}, held-out {study.held_out}. Needs booktabs.",
            r"\begin{tabular}{llrrrllrl}",
            r"\toprule",
            " & ".join(_tex(cell) for cell in HEADER) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip\footnotesize",
            *(note + r"\par" for note in notes),
            "",
        ]
    )


def _row(study: Study, result: Result, model: str) -> list[str]:
    variant, choice, gain = result.variant, result.choice, study.gain(result)
    rate = f"{choice.learning_rate:g}" + (EDGE_MARK if choice.edge else "")
    if len(choice.means) > 1:
        rate += f" of {len(choice.means)}"
    return [
        variant.algorithm,
        variant.label + model,
        count_text(variant.num_parameters),
        bytes_text(variant.num_bytes),
        rate,
        ", ".join(choice.reported_on),
        _interval(result.accuracy),
        "" if gain is None else f"{100 * gain:+.1f}",
        ", ".join(dict.fromkeys(map(_paper, result.paper))),
    ]


def _rule(study: Study) -> str:
    if all(len(result.choice.means) == 1 for result in study.results):
        return "One learning rate was tried for each size."
    pairs = {(r.choice.selected_on, r.choice.reported_on) for r in study.results}
    chosen_by = " or ".join(dict.fromkeys("seeds " + ", ".join(on) for on, _ in sorted(pairs)))
    rule = (
        "Learning rate: of those tried, the one with the highest mean over "
        f"{chosen_by}; of equals the smallest."
    )
    if all(not set(on) & set(reported) for on, reported in pairs):
        return f"{rule} The seeds shown are others."
    return f"{rule} These are among the seeds shown, which favours sizes with more rates."


def _interval(estimate: Estimate) -> str:
    value, low, high = (100 * x for x in (estimate.value, estimate.low, estimate.high))
    if estimate.method == "none":
        return f"{value:.1f} {NO_INTERVAL_MARK}"
    mark = f" {WILSON_MARK}" if estimate.method == "wilson" else ""
    return f"{value:.1f} [{low:.1f}, {high:.1f}]{mark}"


def _paper(point: PaperPoint) -> str:
    about = "" if point.mark == "stated" else "~"
    return f"{about}{100 * point.accuracy:.1f} ({point.source})"


def _tex(text: str) -> str:
    for plain, escaped in (
        ("\\", r"\textbackslash "), ("&", r"\&"), ("%", r"\%"), ("_", r"\_"), ("#", r"\#"),
        ("$", r"\$"), ("{", r"\{"), ("}", r"\}"), ("~", r"$\sim$"), ("†", r"\dag{}"),
        ("‡", r"\ddag{}"), ("§", r"\S{}"), ("`", ""),
    ):  # fmt: skip
        text = text.replace(plain, escaped)
    return text
