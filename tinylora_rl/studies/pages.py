"""Writes `page.html` and a page a run in `run_pages/`: for a browser, without server or account."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinylora_rl.atomic import write_text
from tinylora_rl.studies.records import RunRecord
from tinylora_rl.studies.run_page import run_page
from tinylora_rl.studies.study import Study
from tinylora_rl.studies.study_page import study_page

PAGE = "page.html"
RUN_PAGES = "run_pages"


def write_pages(study: Study, directory: Path) -> Path:
    """Writes the pages of `study` to `directory`.

    Returns:
        The page to open first.
    """
    addresses = _addresses(study.runs)
    for run in study.runs:
        write_text(directory / addresses[run.name], run_page(run, back=f"../{PAGE}"))
    page = directory / PAGE
    write_text(page, study_page(study, addresses))
    return page


def _addresses(runs: Sequence[RunRecord]) -> dict[str, str]:
    """Returns {run: address relative to the study's page}; distinct, safe on any file system."""
    found: dict[str, str] = {}
    for run in runs:
        kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in run.name)
        slug = kept.strip("._")[:120] or "run"
        taken = set(found.values())
        address, count = f"{RUN_PAGES}/{slug}.html", 1
        while address in taken:
            count += 1
            address = f"{RUN_PAGES}/{slug}_{count}.html"
        found[run.name] = address
    return found
