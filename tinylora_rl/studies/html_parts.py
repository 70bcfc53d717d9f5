"""Renders the parts of the pages. Every text that comes from a run is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from importlib import resources

from tinylora_rl.studies.diagnostics import Diagnosis, Severity
from tinylora_rl.studies.svg import NUM_COLOURS, Chart, draw

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
ICONS: dict[Severity, str] = {"error": "&#9632;", "warning": "&#9650;", "good": "&#10003;"}


def document(title: str, body: Iterable[str]) -> str:
    """Renders a page: its style inside, and a policy that forbids anything from elsewhere."""
    style = resources.files(__package__).joinpath("page.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def text(value: object) -> str:
    """Escapes `value` for use between tags or within a quoted attribute."""
    return html.escape(str(value), quote=True)


def link(address: str, label: str) -> str:
    return f'<a href="{text(address)}">{text(label)}</a>'


def panel(title: str, caption: str, chart: Chart, *, unit: str = "", legend: str = "") -> str:
    """Renders one chart with its heading, sentence and legend."""
    shown_unit = f' <span class="unit">{text(unit)}</span>' if unit else ""
    return (
        f"<figure><h3>{text(title)}{shown_unit}</h3><figcaption>{text(caption)}</figcaption>"
        f"{draw(chart)}{legend}</figure>"
    )


def colour_legend(labels: Iterable[tuple[str, int]], *, rings: Iterable[str] = ()) -> str:
    """Renders a list of (label, colour), then the labels of marks drawn as rings."""
    entries = [
        f'<li class="s{colour % NUM_COLOURS}"><span>{text(label)}</span></li>'
        for label, colour in labels
    ]
    entries += [f'<li class="ring"><span>{text(label)}</span></li>' for label in rings]
    return f'<ul class="legend">{"".join(entries)}</ul>' if entries else ""


def diagnoses_list(entries: Iterable[tuple[str, Diagnosis]]) -> str:
    """Renders (subject, diagnosis) as a list; a sign repeats the severity that the colour shows."""
    items = []
    for subject, found in entries:
        about = f"<b>{text(subject)}</b> " if subject else ""
        fix = f' <span class="soft">{text(found.fix)}</span>' if found.fix else ""
        items.append(
            f'<li class="{found.severity}" data-rule="{found.rule}">{ICONS[found.severity]} '
            f"<span>{about}{text(found.message)}{fix}</span></li>"
        )
    return f'<ul class="diagnoses">{"".join(items)}</ul>'


def badge(severity: Severity, label: str) -> str:
    return f'<span class="badge {severity}">{text(label)}</span>'


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Renders names and values, in as many columns as fit."""
    entries = (f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in pairs if v != "")
    return f'<dl class="facts">{"".join(entries)}</dl>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Renders rows of HTML cells; `right` are columns of numbers. Wide tables scroll."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=right' if index in right else ''}>{cell}</{tag}>"
            for index, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", [text(h) for h in header])}</tr>'
        f"</thead><tbody>{body}</tbody></table></div>"
    )
