"""A base model is one folder for all of a run, of one commit, and brings no code."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tinylora_rl.base_model.folder import base_model_folder, local_base_model, pin_base_model
from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks.arithmetic import base_model_dir

REPO = "somebody/tiny"
COMMITS = ("1" * 40, "2" * 40)


@pytest.fixture
def model(tmp_path) -> Path:
    return Path(shutil.copytree(base_model_dir(), tmp_path / "model"))


def edit(file: Path, **values: object) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **values}))


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_a_model_that_brings_code_is_refused(model, name):
    assert local_base_model(str(model))[0] == model.resolve()
    edit(model / name, auto_map={"AutoTokenizer": ["elsewhere/repository--code.Tokenizer", None]})
    with pytest.raises(ConfigError, match=rf"{name} names code of its own \(auto_map\), which is"):
        local_base_model(str(model))


def test_a_configuration_that_is_no_json_is_refused_in_one_line(model):
    (model / "tokenizer_config.json").write_text("{" * 100_000)
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json is not JSON") as caught:
        base_model_folder(str(model))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named_by_its_key():
    with pytest.raises(ConfigError, match=r"base_model\.path=/nowhere: no such folder"):
        base_model_folder("/nowhere")


def test_a_folder_is_pinned_as_it_is(model):
    path = str(model.parent / "." / "model")
    config = OmegaConf.create(
        {
            "base_model": {"path": path, "revision": None},
            "actor_rollout_ref": {"model": {"path": "${base_model.path}"}},
        }
    )
    assert pin_base_model(config) == path
    assert config.actor_rollout_ref.model.path == str(model.resolve())
    assert config.base_model.path == path


PROGRAM = f"""
import sys
from omegaconf import OmegaConf
from tinylora_rl.errors import ConfigError
from tinylora_rl.base_model.folder import hold_on_every_node, pin_base_model

for revision in (None, {COMMITS[0]!r}, "3" * 40):
    config = OmegaConf.create({{
        "base_model": {{"path": {REPO!r}, "revision": revision}},
        "actor_rollout_ref": {{"model": {{"path": "${{base_model.path}}"}}}},
    }})
    try:
        print(pin_base_model(config), "|", config.actor_rollout_ref.model.path)
    except ConfigError as error:
        print("refused:", error)
        continue
    if "ray" in sys.argv and revision is None:
        import ray

        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False,
                 object_store_memory=80_000_000)
        hold_on_every_node(config)
        print("held on", len(ray.nodes()), "node")
        config.actor_rollout_ref.model.path += "x"
        try:
            hold_on_every_node(config)
        except ConfigError as error:
            print("refused:", error)
        ray.shutdown()
"""


def pinned(tmp_path: Path, model: Path, *arguments: str) -> list[str]:
    """What the program prints of a hub's cache that holds two commits, the second the newest."""
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
    _, held, refused, *_ = pinned(tmp_path, model, "ray")
    assert held == "held on 1 node"
    assert "put HF_HOME or the model's folder on a file system that all nodes share" in refused
