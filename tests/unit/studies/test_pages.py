"""The pages, as text and in a browser."""

import re
import shutil
import subprocess

import pytest

from tests.unit.studies.made import make_run
from tinylora_rl.studies.dashboard import SECTIONS
from tinylora_rl.studies.pages import write_pages
from tinylora_rl.studies.records import read_run
from tinylora_rl.studies.study import build_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
HOSTILE = '<img src=x onerror="document.title=1">'


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    small = {"r": 2, "u": 1, "n_tie": "all", "tie_mode": "tiled"}
    runs = [
        read_run(
            make_run(
                folder / f"{verb}_{number}_{rate}_{seed}",
                verb=verb,
                adapter=adapter,
                learning_rate=rate,
                seed=seed,
                accuracy=0.9 if rate > 1e-5 else 0.1,
                metrics={"tinylora/relative_delta_norm": 1e-6} if rate < 1e-5 else None,
            ),
            f"{verb}/{number} lr={rate} seed={seed}" + (HOSTILE if seed else ""),
        )
        for verb in ("train", "sft")
        for number, adapter in enumerate((small, None))
        for rate in (1e-7, 5e-3)
        for seed in (0, 1)
    ]
    return write_pages(build_study(runs), folder / "out")


def test_every_run_has_a_page_that_is_linked(pages):
    text = pages.read_text()
    addresses = re.findall(r'href="(run_pages/[^"]*)"', text)
    assert len(set(addresses)) == 16
    for address in addresses:
        page = (pages.parent / address).read_text()
        assert 'href="../page.html"' in page


def test_a_rate_too_small_is_said_on_the_runs_page_and_flagged_in_the_list(pages):
    (page,) = pages.parent.glob("run_pages/train_0_lr_1e-07_seed_0.html")
    assert "The learning rate is too small to move v: after 12 steps at 1e-07" in page.read_text()
    (page,) = pages.parent.glob("run_pages/train_0_lr_0.005_seed_0.html")
    assert "too small to move v" not in page.read_text()
    assert pages.read_text().count(">rate too small<") == 8


def test_a_runs_page_has_every_panel_with_data(pages):
    (page,) = pages.parent.glob("run_pages/train_1_lr_0.005_seed_0.html")
    text = page.read_text()
    for section in SECTIONS.values():
        for panel in section:
            assert (f"<h3>{panel.title.replace('&', '&amp;')}" in text) == (panel.title != "Loss")


def test_pages_ask_for_nothing_and_show_names_as_text(pages):
    for page in [pages, *pages.parent.glob("run_pages/*.html")]:
        text = page.read_text()
        assert "default-src 'none'" in text
        assert not re.search(r"https?://|<script|<link|<img|url\(", text)
        assert "prefers-color-scheme: dark" in text
        assert "width=device-width" in text
    assert "&lt;img src=x" in pages.read_text()


def test_pages_render_in_a_browser_without_complaints(pages, tmp_path):
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    (run_page,) = pages.parent.glob("run_pages/train_1_lr_0.005_seed_0.html")
    for page, num_charts in ((pages, 20), (run_page, 15)):
        done = subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={tmp_path / 'profile'}",
                "--enable-logging=stderr",
                "--dump-dom",
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert "CONSOLE" not in done.stderr  # errors, and what the policy refused
        assert done.stdout.count("<svg") >= num_charts
        assert "<title>1</title>" not in done.stdout  # what the hostile name would do
