"""The file that names the newest checkpoint, torn by a kill: verl 0.9.1 writes it in place."""

import pytest

from tinylora_rl.verl_plugin.trainer import repair_tracker


@pytest.fixture
def checkpoints(tmp_path):
    for step, complete in ((1, True), (2, True), (10, False)):
        adapter = tmp_path / f"global_step_{step}" / "actor" / "adapter"
        adapter.mkdir(parents=True)
        (tmp_path / f"global_step_{step}" / "data.pt").touch()
        if complete:
            (adapter / "manifest.json").write_text("{}")
    return tmp_path


def tracker(checkpoints):
    return checkpoints / "latest_checkpointed_iteration.txt"


def test_a_torn_tracker_names_the_newest_complete_checkpoint(checkpoints):
    tracker(checkpoints).write_text("")
    repair_tracker(checkpoints)
    assert tracker(checkpoints).read_text() == "2"


def test_a_good_tracker_is_left_alone(checkpoints):
    tracker(checkpoints).write_text("1")
    repair_tracker(checkpoints)
    assert tracker(checkpoints).read_text() == "1"


def test_without_a_checkpoint_the_run_starts_from_scratch(tmp_path):
    repair_tracker(tmp_path)
    tracker(tmp_path).write_text("")
    repair_tracker(tmp_path)
    assert not tracker(tmp_path).exists()
