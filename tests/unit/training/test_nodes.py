"""All processes of a run, on all nodes, read one folder of one commit."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tinylora_rl.settings.compose import compose
from tinylora_rl.settings.experiment import read
from tinylora_rl.tasks.arithmetic import base_model_dir

REPO = "somebody/tiny"
COMMITS = ("1" * 40, "2" * 40)


@pytest.fixture
def model(tmp_path) -> Path:
    return Path(shutil.copytree(base_model_dir(), tmp_path / "model"))


def test_every_process_of_a_run_gets_the_folder(model):
    path = str(model.parent / "." / "model")
    run = read(compose("train", ["+recipe=arithmetic_cpu", f"base_model.path={path}"]))
    assert run.base.id == path
    tree = run.for_verl(model_dir=run.base.folder)
    assert tree.actor_rollout_ref.model.path == str(model.resolve())
    assert tree.base_model.path == path


PROGRAM = f"""
import sys
from pathlib import Path

from tinylora_rl.base_model import BaseModel
from tinylora_rl.errors import ConfigError
from tinylora_rl.training.ray_setup import require_on_every_node

for revision in (None, {COMMITS[0]!r}, "3" * 40):
    base = BaseModel({REPO!r}, revision)
    try:
        print(base, "|", base.folder)
    except ConfigError as error:
        print("refused:", error)
        continue
    if "ray" in sys.argv and revision is None:
        import ray

        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
                 object_store_memory=80_000_000)
        require_on_every_node(base.folder, base.commit, base.id, wants_gpu=False)
        print("found on", len(ray.nodes()), "node")
        try:
            require_on_every_node(Path(f"{{base.folder}}x"), None, base.id, wants_gpu=False)
        except ConfigError as error:
            print("refused:", error)
        ray.shutdown()
"""


def pinned(tmp_path: Path, model: Path, *arguments: str) -> list[str]:
    """Returns what the program prints of a cache of two commits, the second the newest."""
    repository = tmp_path / "hub" / "hub" / f"models--{REPO.replace('/', '--')}"
    for commit in COMMITS:
        shutil.copytree(model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMITS[1])
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_a_hub_model_is_pinned_to_the_folder_of_one_commit(tmp_path, model):
    snapshots = tmp_path / "hub" / "hub" / "models--somebody--tiny" / "snapshots"
    newest, named, unknown = pinned(tmp_path, model)
    assert newest == f"{REPO} at {COMMITS[1]} | {snapshots / COMMITS[1]}"
    assert named == f"{REPO} at {COMMITS[0]} | {snapshots / COMMITS[0]}"
    assert unknown.startswith(f"refused: base_model.path={REPO}: not loaded from the Hub")


@pytest.mark.slow
def test_every_node_of_a_cluster_must_have_the_folder(tmp_path, model):
    _, found, refused, *_ = pinned(tmp_path, model, "ray")
    assert found == "found on 1 node"
    assert "put HF_HOME or the model's folder on a file system that all nodes share" in refused
