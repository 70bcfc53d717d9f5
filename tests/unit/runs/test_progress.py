"""The line of the step in progress: on a terminal alone, in place, and nothing stays behind."""

import io
import os
import time

import pytest

from tinylora_rl.runs import progress
from tinylora_rl.runs.console import ProgressLines
from tinylora_rl.runs.directory import MetricsFile, RunDirectory
from tinylora_rl.runs.progress import ProgressFile


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunDirectory:
    monkeypatch.setattr("tinylora_rl.runs.console.POLL_S", 0.01)
    return RunDirectory(tmp_path)


def wait_for(console: io.StringIO, text: str) -> None:
    deadline_s = time.monotonic() + 10
    while text not in console.getvalue():
        assert time.monotonic() < deadline_s, console.getvalue()
        time.sleep(0.01)


def test_a_terminal_shows_the_step_in_progress_and_then_its_line(run):
    console = Terminal()
    before = os.listdir(run.path)
    with ProgressLines(run.metrics, console, 9):
        trainer, actor = ProgressFile(run.path), ProgressFile(run.path)
        trainer.begin("validation", 3)
        wait_for(console, "\r\x1b[Kvalidation 0/3")
        trainer.begin("rollout", 64)
        wait_for(console, "\r\x1b[Kstep    1/9   rollout 0/64")
        actor.begin("update", 8)
        wait_for(console, "\r\x1b[Kstep    1/9   update 0/8")
        MetricsFile(run.metrics).log({"critic/score/mean": 0.5}, 1)
        wait_for(console, "\r\x1b[Kstep    1/9   reward 0.500\n")
        trainer.begin("rollout", 64)
        wait_for(console, "\r\x1b[Kstep    2/9   rollout 0/64")
    assert console.getvalue().endswith("\r\x1b[K")
    trainer.begin("rollout", 64)  # of a process that outlives the console
    assert os.listdir(run.path) == [*before, "metrics.jsonl"]


def test_a_file_shows_lines_and_nothing_is_written_for_it(run):
    console = io.StringIO()
    (run.path / ".progress").write_text("rollout 1/2")  # of a run that was killed
    with ProgressLines(run.metrics, console, 9):
        ProgressFile(run.path).begin("rollout", 64)
        assert not os.listdir(run.path)
        MetricsFile(run.metrics).log({"critic/score/mean": 0.5}, 1)
    assert console.getvalue() == "step    1/9   reward 0.500\n"


def test_news_is_written_at_most_twice_a_second(tmp_path, monkeypatch):
    clock_s = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock_s)
    file, written = ProgressFile(tmp_path), []
    file.create()
    assert file.read() is None
    monkeypatch.setattr(file, "_write", written.append)
    file.begin("update", 100)
    for step in range(1, 100):
        clock_s += 0.0625  # exact in binary
        file.advance_to(step // 2)
    assert written == [f"update {n}/100".encode() for n in range(0, 49, 4)]
    clock_s += 60
    for _ in range(3):
        file.advance_to(49)
    assert written[13:] == [b"update 49/100"]


def test_a_shorter_report_leaves_nothing_of_a_longer(tmp_path):
    file = ProgressFile(tmp_path)
    file.create()
    file.begin("rollout", 1000)
    file.begin("update", 1)
    assert file.read() == "update 0/1"
    file.clear()
    assert file.read() is None
    file.remove()
    assert file.read() is None
