"""Weights & Biases without a network: addresses, and the dashboard built."""

import json

import pytest

from tinylora_rl.errors import ConfigError
from tinylora_rl.studies.dashboard import SECTIONS
from tinylora_rl.studies.wandb_server import parse_address


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
    from tinylora_rl.studies.wandb_server import build_workspace

    workspace = build_workspace("me", "tinylora-rl")
    spec = json.loads(workspace._to_model().model_dump_json())["spec"]
    built = spec["section"]["panel_bank_config"]["sections"]
    assert [section["name"] for section in built] == list(SECTIONS)
    for section, expected in zip(built, SECTIONS.values(), strict=True):
        for panel, wanted in zip(section["panels"], expected, strict=True):
            assert panel["config"]["chart_title"] == wanted.title
            assert (panel["config"]["metrics"] or []) == list(wanted.metrics)
            assert (panel["config"]["metric_regex"] or "") == wanted.pattern
            assert bool(panel["config"]["y_log_scale"]) == wanted.log


def test_a_panel_names_metrics_or_a_pattern_and_every_metric_stands_once():
    panels = [panel for section in SECTIONS.values() for panel in section]
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
