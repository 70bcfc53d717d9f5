"""Directories that are complete or absent, whatever happens while they are written."""

import pytest

from tinylora_rl.atomic import new_directory, replacing_directory


def test_a_writer_killed_between_its_renames_loses_nothing(tmp_path):
    target = tmp_path / "target"
    with replacing_directory(target) as fresh:
        (fresh / "a").write_text("good")
    target.rename(tmp_path / ".target.old")  # what the kill leaves
    with pytest.raises(OSError, match="disk full"), replacing_directory(target):
        raise OSError("disk full")
    assert (target / "a").read_text() == "good"


def test_a_writer_that_fails_leaves_the_old_directory(tmp_path):
    target = tmp_path / "target"
    with replacing_directory(target) as fresh:
        (fresh / "a").write_text("old")
    with pytest.raises(RuntimeError, match="injected"), replacing_directory(target) as fresh:  # noqa: PT012
        (fresh / "a").write_text("new")
        raise RuntimeError("injected")
    assert (target / "a").read_text() == "old"
    with replacing_directory(target) as fresh:
        (fresh / "b").write_text("newer")
    assert [path.name for path in target.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_new_directory_replaces_nothing(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("full", "file"):
        with pytest.raises(ValueError, match="exists; give a new folder"):
            new_directory(tmp_path / name).__enter__()
    (tmp_path / "empty").mkdir()
    with new_directory(tmp_path / "empty") as fresh:
        (fresh / "a").write_text("a")
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["a"]


def test_a_new_directory_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="injected"), new_directory(tmp_path / "out") as fresh:  # noqa: PT012
        (fresh / "a").write_text("a")
        raise RuntimeError("injected")
    assert not list(tmp_path.iterdir())
