"""A checkpoint is the one before or the new one, whatever ends its writer, and whenever."""

import os
import signal
import sys
from pathlib import Path

import pytest

from tinylora_rl.atomic import replacing_directory, write_text
from tinylora_rl.runs.checkpoints import (
    MANIFEST,
    commit,
    discard,
    fault,
    kept,
    newest_good,
    step_folders,
    step_of,
)


def save(checkpoints: Path, step: int, contents: str) -> Path:
    """The files of a step in the order in which a run writes them (verl_plugin.step_commit)."""
    folder = checkpoints / f"global_step_{step}"
    discard(folder)
    with replacing_directory(folder / "actor") as fresh:
        (fresh / "trainer_state.safetensors").write_text(contents)
        with replacing_directory(fresh / "adapter") as adapter:
            (adapter / "adapter.safetensors").write_text(contents)
            (adapter / "manifest.json").write_text("{}")
    (folder / "data.pt").write_text(contents)
    (checkpoints / "latest_checkpointed_iteration.txt").write_text(str(step))  # verl's, in place
    commit(folder)
    return folder


def contents(folder: Path) -> set[str]:
    files = ("data.pt", "actor/trainer_state.safetensors", "actor/adapter/adapter.safetensors")
    return {(folder / file).read_text() for file in files}


def killed_at_call(number: int, work) -> bool:
    """`work` in a process that gets SIGKILL before its `number`-th call that changes the disk."""
    process = os.fork()
    if process == 0:
        calls = 0

        def before_call(event: str, arguments: tuple) -> None:
            nonlocal calls
            writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
                calls += 1
                if calls == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(before_call)
        work()
        os._exit(0)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("again", [False, True], ids=["new_step", "step_taken_again"])
def test_killed_at_any_call_a_save_leaves_the_step_before_or_the_new_one(tmp_path, again):
    checkpoints = tmp_path / "checkpoints"
    found = []
    for number in range(1, 100):
        save(checkpoints, 1, "one")
        if again:
            save(checkpoints, 2, "damaged since")
            (checkpoints / "global_step_2" / "data.pt").write_text("!")
        else:
            discard(checkpoints / "global_step_2")
        if not killed_at_call(number, lambda: save(checkpoints, 2, "two")):
            break
        folder = newest_good(checkpoints).folder
        found.append(step_of(folder))
        assert contents(folder) == ({"one"} if step_of(folder) == 1 else {"two"})
        assert newest_good(checkpoints).num_committed <= 1
        # and the next one gets through
        assert contents(save(checkpoints, 2, "two")) == {"two"}
        assert newest_good(checkpoints).folder == checkpoints / "global_step_2"
    assert len(found) > 10  # calls at which it was killed
    assert found == sorted(found)  # one instant at which the new step begins to count
    assert set(found) == {1, 2}
    assert not list(checkpoints.rglob("*.partial"))


def test_what_is_damaged_is_named_and_the_one_before_is_found(tmp_path):
    for step in (1, 2, 10):
        save(tmp_path, step, f"contents {step}")
    assert [step_of(folder) for folder in step_folders(tmp_path)] == [10, 2, 1]
    newest = tmp_path / "global_step_10"
    assert newest_good(tmp_path).folder == newest
    assert newest_good(tmp_path).faults == {}

    (newest / "data.pt").write_text("contents 1?")
    assert fault(newest) == "is damaged (data.pt has another sha256)"
    (newest / "data.pt").write_text("")
    assert fault(newest) == "is damaged (data.pt has 0 bytes, not 11)"
    (newest / "data.pt").unlink()
    assert fault(newest) == "is damaged (data.pt is missing)"
    found = newest_good(tmp_path)
    assert found.folder == tmp_path / "global_step_2"
    assert found.faults == {newest: "is damaged (data.pt is missing)"}
    assert found.num_committed == 1
    for broken in ("", "{", '{"format": 2}', "[]"):
        (newest / MANIFEST).write_text(broken)
        assert "is no manifest" in fault(newest)
    (newest / MANIFEST).unlink()
    assert fault(newest) == "was not finished (no manifest.json)"
    assert newest_good(tmp_path).num_committed == 0


def test_kept_names_the_newest_finished_step(tmp_path):
    assert kept(tmp_path) == []
    save(tmp_path, 3, "three")
    (tmp_path / "global_step_4").mkdir()
    assert kept(tmp_path) == [
        "kept              all up to step 3; the same command goes on from there"
    ]


def test_what_does_not_belong_to_a_step_is_passed_over(tmp_path):
    write_text(tmp_path / "global_step_x" / "a", "a")
    assert step_folders(tmp_path) == []
    assert newest_good(tmp_path / "absent").folder is None
