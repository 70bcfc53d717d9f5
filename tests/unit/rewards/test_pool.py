import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import GradingError, GradingPool, Submission
from tinylora_rl.rewards.judges import Gold
from tinylora_rl.rewards.process import (
    HEADER_BYTES,
    INHERITED,
    WALL_FACTOR,
    decode,
    encode,
    payload_length,
)

BROKEN = "tests.unit.rewards.broken_judges"
EXACT = "flexible"
GOLD = Gold(answer="5")
DEADLINE_S = 1.0
make_pool = partial(
    GradingPool, plugins=[BROKEN], deadline_s=DEADLINE_S, memory_limit_bytes=256 << 20
)


@pytest.fixture(scope="module")
def pool():
    with make_pool(num_workers=2) as pool:
        yield pool


def is_running(pid):
    """True unless the process is gone or a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until(condition, timeout_s=10.0):
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("spins", "deadline"),
        ("spins_in_c", "deadline"),
        ("ignores_signals", "deadline"),
        ("fills_memory", "memory"),
        ("hides_memory_error", "memory"),
        ("overflows_the_stack", "crash"),
        ("raises", "crash"),
        ("recurses", "crash"),
        ("exits", "crash"),
        ("exits_politely", "crash"),
        ("writes_nonsense", "garbage"),
        ("announces_too_much", "garbage"),
        ("says_maybe", "garbage"),
        ("returns_maybe", "crash"),
        ("returns_nothing", "crash"),
    ],
)
def test_a_judge_that_fails_is_never_a_verdict(pool, name, cause):
    before = pool.counts
    start = time.monotonic()
    graded = pool.grade("5", GOLD, [EXACT, "prints", name, "tells_pid"])
    assert time.monotonic() - start < WALL_FACTOR * DEADLINE_S + 3
    # What was judged before the failure counts, in the pool and in the process.
    verdicts = {key: judged.verdict for key, judged in graded.judged.items()}
    assert verdicts == {
        EXACT: "right",
        "prints": "right",
        name: "timed_out",
        "tells_pid": "timed_out",
    }
    assert graded.judged[name].answer is None
    assert graded.failure == cause
    assert pool.counts[cause] == before[cause] + 1
    after = pool.grade("6", GOLD, ["prints", EXACT])
    assert [judged.verdict for judged in after.judged.values()] == ["right", "wrong"]
    assert after.failure is None


def test_the_deadline_is_for_grading_not_for_the_queue_nor_the_start():
    with make_pool(num_workers=1, deadline_s=0.5) as pool:
        work = Submission(response="", gold=Gold(answer="200"), judges=("slow",))
        results = pool.grade_many([work] * 5)
        assert [graded.judged["slow"].verdict for graded in results] == ["right"] * 5
        assert all(0.2 <= graded.grade_s < 2 for graded in results)
        assert pool.counts["starts"] == 1


def test_a_deadline_is_processor_time():
    """Waiting for a processor is not grading; four times as long on the clock is given up."""
    with make_pool(num_workers=1, deadline_s=0.5) as pool:
        for milliseconds, verdict in ((1000, "right"), (30_000, "timed_out")):
            graded = pool.grade("", Gold(answer=str(milliseconds)), ["slow"])
            assert graded.judged["slow"].verdict == verdict
            assert graded.grade_s < WALL_FACTOR * 0.5 + 2
        assert graded.grade_s >= WALL_FACTOR * 0.5 - 0.1
        assert pool.grade("", GOLD, ["spins"]).grade_s >= 0.45


def test_many_come_back_in_order_and_all_workers_work(pool):
    golds = [Gold(answer=str(30 * (i % 4))) for i in range(24)]
    work = [Submission(response=str(i), gold=g, judges=("slow",)) for i, g in enumerate(golds)]
    pool.grade_many(work[:4])
    start = time.monotonic()
    results = pool.grade_many(iter(work))
    assert time.monotonic() - start < 0.9 * 24 * 0.045  # one worker alone needs all of it
    assert [graded.judged["slow"].answer for graded in results] == [str(i) for i in range(24)]
    assert pool.grade_many([]) == []


def test_sixteen_threads_at_once(pool):
    def grade(i):
        names = ["tells_pid", EXACT] if i % 40 else ["exits", EXACT]
        return pool.grade(str(i), Gold(answer=str(i - i % 2)), names)

    with ThreadPoolExecutor(16) as threads:
        results = list(threads.map(grade, range(400)))
    for i, graded in enumerate(results):
        assert graded.judged[EXACT].verdict == ("wrong" if i % 2 else "right")
        assert graded.failure == (None if i % 40 else "crash")
    pids = {r.judged["tells_pid"].answer for r in results if "tells_pid" in r.judged}
    assert len(pids) >= 2
    assert len(pool.pids) == 2


@given(st.text(st.characters(codec=None), max_size=50))
def test_strings_travel_code_point_for_code_point(text):
    frame = encode({"response": text})
    assert payload_length(frame[:HEADER_BYTES]) == len(frame) - HEADER_BYTES
    assert decode(frame[HEADER_BYTES:]) == {"response": text}


@pytest.mark.parametrize(
    "text",
    ["\ud83d", "\ud83d\ude00", "\x00\x01\x1b\x7f\u2028\r\n", '"\\', "\U0001f600", "x" * 10**6],
)
def test_strings_reach_the_judge_and_come_back(pool, text):
    assert pool.grade(text, GOLD, ["prints"]).judged["prints"].answer == text


def test_a_process_killed_while_idle_costs_no_answer(pool):
    pool.grade_many([Submission(response="", gold=GOLD, judges=("prints",))] * 8)
    for pid in pool.pids:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(is_running(pid) for pid in pool.pids))
    for _ in range(4):
        assert pool.grade("", GOLD, ["prints"]).judged["prints"].verdict == "right"


@pytest.mark.parametrize("end", ["kill", "deadline"])
def test_a_process_lost_at_work_is_timed_out_at_once_and_leaves_none_behind(end, tmp_path):
    name, started = "starts_a_process", tmp_path / "pid"
    deadline_s = 60.0 if end == "kill" else 0.5
    with make_pool(num_workers=1, deadline_s=deadline_s) as pool, ThreadPoolExecutor(1) as threads:
        future = threads.submit(pool.grade, str(started), GOLD, [name])
        wait_until(lambda: started.exists() and started.read_text())
        if end == "kill":
            os.kill(pool.pids[0], signal.SIGKILL)
        graded = future.result(timeout=10)
        assert graded.judged[name].verdict == "timed_out"
        assert graded.failure == ("crash" if end == "kill" else "deadline")
        wait_until(lambda: not is_running(int(started.read_text())))


def test_what_a_judge_starts_does_not_read_the_parents_messages(pool):
    name = "reads_the_input"
    assert pool.grade("", GOLD, [name, "prints"]).judged[name].verdict == "right"


def test_a_process_is_prepared_for_the_judges_it_is_asked_for():
    """A new name replaces it once; after that it is prepared for both."""
    with make_pool(num_workers=1) as pool:
        for name in ("prints", "slow", "prints", "slow", "prints"):
            assert pool.grade("", GOLD, [name]).failure is None
        assert (pool.counts["starts"], pool.counts["recycled"]) == (2, 1)


def test_a_process_has_no_key_of_ours(monkeypatch):
    for name in ("HF_TOKEN", "WANDB_API_KEY", "OPENAI_API_KEY", "RAY_AUTH_TOKEN", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    with make_pool(num_workers=1) as pool:
        (judged,) = pool.grade("", GOLD, ["tells_environment"]).judged.values()
    names = {"PYTHONHASHSEED", "OMP_NUM_THREADS", "LC_CTYPE", *INHERITED}  # Python sets LC_CTYPE
    assert {"PATH", "PYTHONHASHSEED"} <= set(judged.answer.split()) <= names


def test_processes_are_replaced_after_so_many_answers():
    with make_pool(num_workers=1, max_answers_per_process=3) as pool:
        graded = [pool.grade("", GOLD, ["tells_pid"]) for _ in range(7)]
        pids = [one.judged["tells_pid"].answer for one in graded]
        assert len(set(pids)) == 3
        assert pids[0] == pids[2] != pids[3] == pids[5] != pids[6]
        assert pool.counts["recycled"] == 2


def test_a_process_is_light_and_alone(pool):
    assert pool.grade("", GOLD, ["tells_modules"]).judged["tells_modules"].answer == "modules"


def test_exact_judges_start_no_process():
    with make_pool() as pool:
        assert pool.grade("5", GOLD, [EXACT]).judged[EXACT].verdict == "right"
        assert pool.pids == []


def test_a_process_ends_with_its_starting_thread_so_only_the_pools_threads_start_one(pool):
    pids = []

    def first():
        pids.extend(pool.grade("", GOLD, ["tells_pid"]).judged["tells_pid"].answer for _ in "ab")

    thread = threading.Thread(target=first)
    thread.start()
    thread.join()
    time.sleep(0.2)
    assert all(is_running(pid) for pid in pids)


def test_close_ends_the_processes_and_the_callers():
    pool = make_pool(num_workers=1, deadline_s=60.0)
    with ThreadPoolExecutor(2) as threads:
        busy = threads.submit(pool.grade, "", GOLD, ["spins"])
        wait_until(lambda: pool.counts["starts"] == 1)
        waiting = threads.submit(pool.grade, "", GOLD, ["prints"])
        time.sleep(0.5)
        pids = pool.pids
        pool.close()
        assert busy.result(timeout=5).failure == "crash"
        with pytest.raises(GradingError, match="was closed"):
            waiting.result(timeout=5)
    assert not any(is_running(pid) for pid in pids)
    with pytest.raises(GradingError, match="a closed grading pool was used; make a new one"):
        pool.grade("", GOLD, ["prints"])
    pool.close()


def test_letting_go_of_a_pool_ends_its_processes():
    pool = make_pool(num_workers=1)
    pid = int(pool.grade("", GOLD, ["tells_pid"]).judged["tells_pid"].answer)
    del pool
    wait_until(lambda: not is_running(pid))


_PARENT = f"""
import os, sys, threading
from tinylora_rl.rewards import GradingPool
from tinylora_rl.rewards.judges import Gold
pool = GradingPool(num_workers=2, deadline_s=300, plugins=[{BROKEN!r}])
gold = Gold(answer="5")
for name in ("spins_in_c", "ignores_signals"):
    threading.Thread(target=pool.grade, args=("", gold, [name]), daemon=True).start()
while len(pool.pids) < 2:
    pass
import time; time.sleep(1.5)
print(*pool.pids, flush=True)
if sys.argv[1] == "wait":
    time.sleep(300)
"""


@pytest.mark.parametrize("end", ["kill", "exit"])
def test_no_process_outlives_its_parent(end):
    """Both children are in the middle of a judge that listens to nothing."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, "wait" if end == "kill" else "exit"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with parent:
        pids = parent.stdout.readline().split()
        assert len(pids) == 2
        if end == "kill":
            parent.kill()
        parent.wait(timeout=10)
    wait_until(lambda: not any(is_running(pid) for pid in pids))


def test_a_fork_does_not_hang_and_does_not_end_the_parents_processes(pool):
    pool.grade("", GOLD, ["prints"])
    code = os.fork()
    if code == 0:
        try:
            pool.grade("", GOLD, ["prints"])
        except GradingError:
            os._exit(7)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(code, 0)[1]) == 7
    assert pool.grade("", GOLD, ["prints"]).failure is None


def test_a_process_that_cannot_start_is_an_error_not_a_verdict():
    with (
        make_pool(memory_limit_bytes=8 << 20) as pool,
        pytest.raises(GradingError, match=r"memory_limit_bytes=8388608: .* allow at least"),
    ):
        pool.grade("", GOLD, ["prints"])
    with pytest.raises(ConfigError, match=r"plugins=no.such.module: no such module"):
        make_pool(plugins=["no.such.module"])
    with pytest.raises(ValueError, match="num_workers=0: must be above 0"):
        make_pool(num_workers=0)
    with pytest.raises(ValueError, match=r"deadline_s=-1: must be above 0"):
        make_pool(deadline_s=-1)


def test_frames_are_json():
    assert json.loads(encode({"a": 1})[HEADER_BYTES:]) == {"a": 1}
    with pytest.raises(ValueError, match="frame_bytes=4294967295"):
        payload_length(b"\xff\xff\xff\xff")
