"""Checks the doctor of the other commands; `test_doctor.py` starts it for real."""

import pytest
import torch

from tests.unit.planning.planning import configured
from tinylora_rl.planning.evaluation import examine_evaluation
from tinylora_rl.planning.finding import code_of
from tinylora_rl.planning.training import examine_training

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


class Answered:
    """A machine without accelerators, as its libraries answer."""

    def answers(self):
        return {
            "torch": {"count": 0, "gpus": [], "built_for": "cpu"},
            "Ray": {"count": 0},
            "vLLM": {"device": "cpu"},
        }

    def stop(self) -> None:
        pass


@pytest.fixture(autouse=True)
def unreachable_hub(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_supervised_run_is_planned_and_passes():
    config = configured("sft", {"+recipe": "arithmetic_cpu"})
    plan, findings = examine_training(config, [], Answered())
    assert code_of(findings) == 0, findings
    lines = dict(plan)
    assert lines["steps"] == "384 of 16 worked answers, at most 64 + 64 tokens each"
    assert "sync" not in lines
    assert "verl" not in [finding.subject for finding in findings]


def test_a_supervised_run_of_7b_needs_gpus_for_its_updates_alone():
    config = configured("sft", {"+recipe": "gsm8k_qwen7b"})
    plan, findings = examine_training(config, [], Answered())
    assert code_of(findings) == 3
    [missing] = [finding.detail for finding in findings if finding.subject == "GPUs"]
    assert "This run needs GPUs with" in missing
    assert not any(text.startswith("rollout: ") for _, text in plan)


def test_an_evaluation_is_planned_and_passes():
    point = {"benchmarks": ["arithmetic"], "evaluate.samples": 3}
    config = configured("evaluate", point)
    assert config.dry_run is False
    plan, findings = examine_evaluation(config, Answered())
    assert code_of(findings) == 0, findings
    lines = dict(plan)
    assert lines["questions"] == "256 of arithmetic"
    assert lines["responses"].startswith("1,024 (4 to each question and policy) of at most 256")


def test_an_evaluation_of_7b_says_which_gpu_it_needs():
    plan, findings = examine_evaluation(
        configured("evaluate", {"model": "qwen2.5_7b", "device": "cuda"}), Answered()
    )
    assert code_of(findings) == 3
    assert dict(plan)["GPUs"].startswith("1 with 20.6 GiB of memory or more each")
    [missing] = [finding.detail for finding in findings if finding.subject == "GPUs"]
    assert "device=cuda: 0 GPUs are visible" in missing
    assert "model=tiny device=cpu walks its whole path" in missing
    assert any("HF_HUB_OFFLINE is set" in finding.detail for finding in findings)


def test_damaged_adapters_and_wrong_values_are_both_told(tmp_path):
    point = {"benchmarks": ["gsm"], "adapters": [str(tmp_path)]}
    plan, findings = examine_evaluation(configured("evaluate", point), Answered())
    assert plan == []
    assert code_of(findings) == 2
    failed = [finding.subject for finding in findings if finding.exit_code]
    assert failed == ["configuration", "adapters"]
