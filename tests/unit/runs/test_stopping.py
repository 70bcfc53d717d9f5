"""A run is asked to stop through its directory, and by its clock."""

import time

from tinylora_rl.runs.directory import MetricsFile
from tinylora_rl.runs.stopping import ENDING_S, POLL_S, SLOWER, StopFile, TimeLimit, slowest_step_s


def test_who_asks_first_is_remembered_and_answered(tmp_path):
    stop = StopFile(tmp_path)
    stop.clear()
    assert stop.reason is None
    assert stop.stopped_after_step is None
    stop.ask("SIGUSR1")
    stop.ask("run.time_limit_s=5")
    assert StopFile(tmp_path).reason == "SIGUSR1"
    assert stop.stopped_after_step is None
    StopFile(tmp_path).answer(7)
    assert stop.stopped_after_step == 7
    assert stop.reason == "SIGUSR1"
    stop.clear()
    assert stop.reason is None


def test_a_person_asks_by_touching_the_file(tmp_path):
    (tmp_path / "stop").touch()
    assert StopFile(tmp_path).reason == f"the file {tmp_path / 'stop'}"


def steps(path, *seconds: float, testing: float | None = None) -> None:
    for step, second in enumerate(seconds, start=1):
        MetricsFile(path).log({"timing_s/step": second}, step)
    if testing is not None:
        MetricsFile(path).log({"timing_s/testing": testing}, len(seconds))


def watch(path, limit_s: float, seconds: float) -> list[str]:
    """What a limit does in the first seconds after its start."""
    done = []
    limit = TimeLimit(
        limit_s, time.monotonic(), path, ask=done.append, end=lambda: done.append("end")
    )
    with limit:
        time.sleep(seconds)
    return done


def test_the_slowest_step_counts_with_its_validation(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert slowest_step_s(path) == 0
    steps(path, 9, 3, testing=8)
    assert slowest_step_s(path) == 11


def test_a_step_that_would_not_fit_is_not_begun(tmp_path):
    path = tmp_path / "metrics.jsonl"
    steps(path, 100)
    assert watch(path, ENDING_S + SLOWER * 100 + 60, 1.5) == []
    limit_s = ENDING_S + SLOWER * 100 + 0.5
    assert watch(path, limit_s, 2.5) == [f"run.time_limit_s={limit_s:g}"]


def test_a_step_begun_since_the_last_look_still_fits(tmp_path):
    path = tmp_path / "metrics.jsonl"
    steps(path, 100)
    assert len(watch(path, ENDING_S + SLOWER * 100 + POLL_S + 0.9, 1.5)) == 1


def test_what_does_not_end_in_time_is_ended(tmp_path):
    assert watch(tmp_path / "metrics.jsonl", ENDING_S + 0.5, 2.5)[-1] == "end"


def test_without_a_limit_nothing_is_watched(tmp_path):
    limit = TimeLimit(None, time.monotonic(), tmp_path, ask=print, end=print)
    with limit:
        assert not limit._thread.is_alive()
