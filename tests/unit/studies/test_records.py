"""Run directories read back."""

import json
import math

import pytest
from safetensors import safe_open

from tests.unit.studies.made import make_run, write_status
from tinylora_rl.artifact.manifest import render_manifest
from tinylora_rl.errors import ConfigError
from tinylora_rl.runs.directory import exclusive
from tinylora_rl.studies.discover import find_records
from tinylora_rl.studies.records import read_run
from tinylora_rl.tasks import write_parquet
from tinylora_rl.tasks.arithmetic import base_model_dir

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def test_a_run_is_read_whole(tmp_path):
    run = read_run(make_run(tmp_path / "a", learning_rate=1e-7, seed=3, accuracy=0.75))
    assert (run.command, run.task, run.seed, run.learning_rate) == (
        "train",
        "arithmetic (strict)",
        "3",
        1e-7,
    )
    assert (run.state, run.num_steps) == ("finished", 12)
    assert run.accuracies()["greedy"] == [(0, 0.1), (12, 0.75)]
    assert run.size.num_parameters == 13  # logged, as there is no adapter
    assert len(run.series("critic/score/mean")) == 12


def write_adapter(directory, *, u, num_groups):
    """A manifest as an artifact has it, of made-up digests."""
    directory.mkdir()
    fields = {
        "format": 2,
        "config": {"r": 2, "u": u, "n_tie": 16},
        "num_modules": 21,
        "num_parameters": u * num_groups,
        "payload_dtype": "float32",
        "payload_shape": [num_groups, u],
        "payload_bytes": 4 * u * num_groups,
        "payload_sha256": "00",
        "base_dtype": "bfloat16",
        "identity": {"base_digest": "11", "projection_digest": "22", "fingerprint": [0.5]},
        "provenance": {},
        "versions": {},
        "created": "2026-01-01T00:00:00+00:00",
    }
    (directory / "manifest.json").write_bytes(render_manifest(fields))


def test_the_manifest_says_what_was_trained(tmp_path):
    directory = make_run(tmp_path / "a")
    write_adapter(directory / "adapter", u=2, num_groups=2)
    run = read_run(directory)
    assert (run.size.num_parameters, run.size.num_bytes) == (4, 16)
    assert (run.size.num_modules, len(run.digest)) == (21, 64)
    manifest = directory / "adapter" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"u": 2', '"u": 3'))
    with pytest.raises(ConfigError, match="digest differs"):
        read_run(directory)


def test_lora_and_full_are_counted_from_the_base(tmp_path):
    with safe_open(base_model_dir() / "model.safetensors", "np") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    full = read_run(make_run(tmp_path / "full", adapter={})).size
    assert full.num_parameters == sum(map(math.prod, shapes.values()))
    assert full.num_bytes == 4 * full.num_parameters
    adapter = {"r": 3, "alpha": 2, "target_modules": TARGETS}
    lora = read_run(make_run(tmp_path / "lora", adapter=adapter)).size
    weights = [name for name in shapes if name.endswith("proj.weight")]
    assert lora.kind == "lora"
    assert len(weights) == 21
    assert lora.num_parameters == 3 * sum(sum(shapes[name]) for name in weights)
    gone = make_run(tmp_path / "gone", adapter={}, model=str(tmp_path / "no_model"))
    assert read_run(gone).size.num_parameters is None


def test_how_a_run_ended(tmp_path):
    directory = make_run(tmp_path / "a", state=None)
    assert read_run(directory).state == "finished"  # by its steps
    write_status(directory, "train", "failed", 12)
    assert read_run(directory).state == "failed"
    write_status(directory, "train", "running", 12)
    assert read_run(directory).state == "stopped"  # nobody holds it: killed
    with exclusive(directory):
        assert read_run(directory).state == "running"


def test_questions_are_counted_from_what_was_validated(tmp_path):
    directory = make_run(tmp_path / "a")
    assert read_run(directory).num_items == {}
    rows = [{"data_source": name} for name in ["arithmetic"] * 5 + ["arithmetic_greedy"] * 4]
    write_parquet(rows, directory / "data" / "test.parquet")
    assert read_run(directory).num_items == {"sampled": 5, "greedy": 4}
    (directory / "samples").mkdir()
    items = [
        {"benchmark": "arithmetic", "greedy": greedy, "index": index}
        for index in range(3)
        for greedy in (True, False, False)
    ]
    lines = "".join(json.dumps(item) + "\n" for item in items)
    (directory / "samples" / "20.items.jsonl").write_text(lines + '{"torn')
    assert read_run(directory).num_items == {"sampled": 3, "greedy": 3}


def test_parents_are_searched_and_names_tell_runs_apart(tmp_path):
    make_run(tmp_path / "sweep" / "u=1" / "seed=0")
    make_run(tmp_path / "sweep" / "u=4" / "seed=0")
    (tmp_path / "sweep" / "u=4" / "seed=0" / "wandb" / "offline-run-1").mkdir(parents=True)
    (tmp_path / "sweep" / "u=4" / "seed=0" / "wandb" / "offline-run-1" / "run-1.wandb").touch()
    twice = [str(tmp_path), str(tmp_path / "sweep" / "u=1")]
    found = find_records(twice)
    assert [run.name for run in found.runs] == ["u=1/seed=0", "u=4/seed=0"]


def test_wandbs_offline_directory_is_the_run_it_stands_in(tmp_path):
    run = make_run(tmp_path / "a")
    offline = run / "wandb" / "offline-run-1"
    offline.mkdir(parents=True)
    (offline / "run-1.wandb").touch()
    for address in (offline / "run-1.wandb", offline, run / "wandb"):
        (found,) = find_records([str(address)]).runs
        assert found.source == str(run)
    elsewhere = tmp_path / "wandb" / "offline-run-1"
    elsewhere.mkdir(parents=True)
    with pytest.raises(ConfigError, match="no run in it"):
        find_records([str(elsewhere)])


def test_what_is_no_run_is_refused_by_name(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no such folder"):
        find_records([str(tmp_path / "missing")])
    with pytest.raises(ConfigError, match="no run in it"):
        find_records([str(tmp_path / "empty")])
    with pytest.raises(ConfigError, match="give wandb:ENTITY/PROJECT"):
        find_records(["wandb:project"])
    directory = make_run(tmp_path / "a")
    (directory / "config.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match="no YAML"):
        find_records([str(directory)])
