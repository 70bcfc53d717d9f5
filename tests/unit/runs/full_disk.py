"""`full_disk FOLDER`, in a mount namespace of its own: what our writers do when a disk of 1 MiB,
mounted on FOLDER, is full.
"""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.runs.test_checkpoints import contents, save
from tinylora_rl.atomic import DiskFullError, free_bytes, write_text
from tinylora_rl.runs.checkpoints import commit, discard, newest_good
from tinylora_rl.runs.directory import MetricsFile, RunDirectory, read_metrics
from tinylora_rl.runs.vector_log import VectorLog, read_vectors


@contextmanager
def filled(folder: Path, leaving: int):
    """Inside, there are less than `leaving` bytes free."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        file.write(b"0" * max(0, free_bytes(folder) - leaving))
    assert free_bytes(folder) <= leaving
    yield
    ballast.unlink()


def refused(what: str, work) -> None:
    says = rf"{what}.*: no space left on the device, \d+ bytes free; make room"
    with pytest.raises(DiskFullError, match=says):
        work()


def main(folder: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    run = RunDirectory(folder)
    save(run.checkpoints, 1, "1" * 10_000)
    metrics, vectors = MetricsFile(run.metrics), VectorLog(run.vectors, last_step=0)
    row = {"long": 0.123456789, **{f"key/{index}": 1.0 for index in range(400)}}
    metrics.log(row, 1)
    vectors.append(1, [[0.5] * 400])

    # half a page: what is appended begins to fit, and does not end
    with filled(folder, leaving=0):
        refused("metrics.jsonl", lambda: metrics.log(row, 2))
        refused("v.jsonl", lambda: vectors.append(2, [[0.5] * 1000]))
        refused("config.yaml", lambda: write_text(run.config, "c" * 5000))
        refused("actor", lambda: save(run.checkpoints, 2, "2" * 10_000))
    assert [row["step"] for row in read_metrics(run.metrics)] == [1]
    assert run.metrics.read_bytes().endswith(b"}\n")
    assert run.vectors.read_bytes().endswith(b"}\n")
    assert list(read_vectors(run.vectors)) == [1]
    assert not run.config.exists()
    assert not [path for path in folder.rglob("*") if path.name.endswith((".new", ".partial"))]
    found = newest_good(run.checkpoints)
    assert contents(found.folder) == {"1" * 10_000}

    # room for the files of a step, and none for its manifest
    torn = save(run.checkpoints, 2, "2" * 10_000)
    (torn / "manifest.json").unlink()
    with filled(folder, leaving=0):
        refused("manifest.json", lambda: commit(torn))
    assert newest_good(run.checkpoints).folder == found.folder

    # and with room again, all goes on
    discard(torn)
    save(run.checkpoints, 2, "2" * 10_000)
    metrics.log(row, 2)
    assert [row["step"] for row in read_metrics(run.metrics)] == [1, 2]
    print("survived", os.getpid())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
