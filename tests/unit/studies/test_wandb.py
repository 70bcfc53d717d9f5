"""Weights & Biases without a network: a run written offline and read back; the dashboard built."""

import json
import os
import subprocess
import sys

import pytest

from tests.unit.studies.made import make_run
from tinylora_rl.errors import ConfigError
from tinylora_rl.studies.dashboard import SECTIONS
from tinylora_rl.studies.discover import find_records
from tinylora_rl.studies.records import read_run
from tinylora_rl.studies.wandb_api import parse_address
from tinylora_rl.studies.wandb_file import BLOCK_BYTES, find_wandb_file, read_wandb_file

# As verl's tracking does it: the resolved configuration, then a dictionary a step.
WRITER = """
import json, sys, wandb
given = json.load(sys.stdin)
run = wandb.init(project="tinylora-rl", name="made", config=given["config"])
for row in given["metrics"]:
    run.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])
run.finish()
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run directory, and W&B's offline directory of the same run."""
    folder = tmp_path_factory.mktemp("wandb")
    directory = make_run(folder / "run", num_steps=120, metrics={f"x/{i}": 0.1 for i in range(20)})
    run = read_run(directory)
    subprocess.run(
        [sys.executable, "-c", WRITER],
        input=json.dumps({"config": run.config, "metrics": run.metrics}),
        env={
            **os.environ,
            "WANDB_MODE": "offline",
            "WANDB_DIR": str(folder),
            "WANDB_SILENT": "true",
        },
        text=True,
        check=True,
        timeout=120,
    )
    (offline,) = (folder / "wandb").glob("offline-run-*")
    return directory, offline


def test_an_offline_run_is_the_run(written):
    directory, offline = written
    (record,) = find_records([str(offline)]).runs
    run = read_run(directory)
    assert find_wandb_file(offline).stat().st_size > 2 * BLOCK_BYTES  # records cross blocks
    assert record.state == "finished"
    assert record.config == run.config
    assert (record.task, record.learning_rate, record.seed) == (
        run.task,
        run.learning_rate,
        run.seed,
    )
    assert record.trained.num_parameters == 13
    assert record.accuracies() == run.accuracies()
    assert record.series("critic/score/mean") == run.series("critic/score/mean")


def test_a_torn_file_counts_up_to_there_and_a_damaged_one_is_refused(written, tmp_path):
    path = find_wandb_file(written[1])
    content = path.read_bytes()
    torn = tmp_path / "run-torn.wandb"
    torn.write_bytes(content[: len(content) // 2])
    record = read_wandb_file(torn)
    assert 10 < len(record.metrics) < 121
    assert record.state == "unknown"
    damaged = tmp_path / "run-damaged.wandb"
    middle = len(content) // 2
    damaged.write_bytes(content[:middle] + b"\x00\xff" + content[middle + 2 :])
    with pytest.raises(ConfigError, match="checksum differs; take another copy"):
        read_wandb_file(damaged)
    other = tmp_path / "run-other.wandb"
    other.write_bytes(b"PK" + content[2:])
    with pytest.raises(ConfigError, match="no W&B log of version 0"):
        read_wandb_file(other)


def test_addresses():
    assert parse_address("wandb:me/project") == ("me", "project", None)
    assert parse_address("wandb:me/project/abc") == ("me", "project", "abc")
    for wrong in ("wandb:", "wandb:me", "wandb:me//x", "wandb:a/b/c/d"):
        with pytest.raises(ConfigError, match="ENTITY/PROJECT"):
            parse_address(wrong)


# pydantic 2 deprecates what wandb-workspaces 0.4 declares its models with
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_workspace_is_the_layout():
    pytest.importorskip("wandb_workspaces")
    from tinylora_rl.studies.workspace import build_workspace

    workspace = build_workspace("me", "tinylora-rl")
    spec = json.loads(workspace._to_model().model_dump_json())["spec"]
    built = spec["section"]["panel_bank_config"]["sections"]
    assert [section["name"] for section in built] == [section.title for section in SECTIONS]
    for section, expected in zip(built, SECTIONS, strict=True):
        for panel, wanted in zip(section["panels"], expected.panels, strict=True):
            assert panel["config"]["chart_title"] == wanted.title
            assert (panel["config"]["metrics"] or []) == list(wanted.metrics)
            assert (panel["config"]["metric_regex"] or "") == wanted.pattern
            assert bool(panel["config"]["y_log_scale"]) == wanted.log


def test_a_panel_names_metrics_or_a_pattern_and_every_metric_stands_once():
    panels = [panel for section in SECTIONS for panel in section.panels]
    assert all(bool(panel.metrics) != bool(panel.pattern) for panel in panels)
    metrics = [metric for panel in panels for metric in panel.metrics]
    assert len(metrics) == len(set(metrics))
    titles = {panel.title: panel for panel in panels}
    names = ["tinylora/v/00", "tinylora/v/12", "tinylora/v_norm", "val-core/a_greedy/acc/mean@1"]
    assert titles["The numbers themselves"].found_in(names) == {
        "tinylora/v/00": "00",
        "tinylora/v/12": "12",
    }
    assert titles["Held-out accuracy"].found_in(names) == {
        "val-core/a_greedy/acc/mean@1": "a_greedy"
    }
