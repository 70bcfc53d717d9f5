"""verl's SFT trainer on our engines: the loss it minimises, and that a stopped run goes on.

All trainings run in one process of their own, since starting verl takes longer than they do.
"""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tinylora_rl.artifact import read_manifest
from tinylora_rl.runs.checkpoints import fault
from tinylora_rl.runs.directory import read_metrics
from tinylora_rl.runs.vector_log import read_vectors
from tinylora_rl.settings.compose import compose
from tinylora_rl.settings.experiment import read
from tinylora_rl.supervised.data import prepare_data
from tinylora_rl.supervised.ranks import run_ranks
from tinylora_rl.supervised.trainer_config import TokenDataset
from tinylora_rl.tasks.arithmetic import base_model_dir

REPOSITORY = Path(__file__).parents[3]
SMALL = (
    "+recipe=arithmetic_cpu",
    "data.train_rows=32",
    "data.test_rows=16",
    "sft.batch_size=8",  # 4 updates a pass
    "sft.save_freq=2",
)
TWO_SMALL_STEPS = ("sft.steps=2", "sft.batch_size=32", "actor_rollout_ref.actor.optim.lr=1e-4")
RUNS = {  # name: (run directory, overrides), in this order
    "whole": ("whole", ["sft.epochs=3"]),
    "whole_again": ("whole", ["sft.epochs=3"]),
    "until_middle": ("middle", ["sft.steps=6"]),
    "from_middle": ("middle", ["sft.epochs=3"]),
    "until_end_of_pass": ("pass", ["sft.steps=4"]),
    "from_end_of_pass": ("pass", ["sft.epochs=3"]),
    "asked": ("asked", ["sft.epochs=3"]),
    "from_asked": ("asked", ["sft.epochs=3"]),
    "signalled": ("signalled", ["sft.epochs=3"]),
    "from_signalled": ("signalled", ["sft.epochs=3"]),
    "lora": ("lora", ["adapter=lora", *TWO_SMALL_STEPS]),
    "full": ("full", ["adapter=full", *TWO_SMALL_STEPS]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trainings")
    files = []
    for name, (directory, overrides) in RUNS.items():
        run_dir = str(folder / directory)
        experiment = read(compose("sft", [*SMALL, *overrides], run_dir=run_dir))
        prepared = prepare_data(experiment)
        steps = experiment.supervised_steps(prepared.num_train)
        files.append(folder / f"{name}.yaml")
        files[-1].write_text(experiment.stored(experiment.for_verl(total_steps=steps)))
        (folder / f"{name}.overrides").write_text("\n".join([*SMALL, *overrides]))
    (folder / "asked.ask").write_text("file")
    (folder / "signalled.ask").write_text("signal")
    env = {"PYTHONPATH": str(REPOSITORY), "TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1"}
    assert (
        run_ranks("tests.unit.supervised.trainings", list(map(str, files)), num_ranks=1, env=env)
        == 0
    )
    return folder


def losses(folder: Path, directory: str) -> dict[int, float]:
    rows = read_metrics(folder / directory / "metrics.jsonl")
    return {row["step"]: row["train/loss"] for row in rows if "train/loss" in row}


def mean_loss(model: torch.nn.Module, sequences: TokenDataset) -> float:
    """Mean cross-entropy of all target tokens, one sequence at a time."""
    total, num_tokens = 0.0, 0
    for item in (sequences[index] for index in range(len(sequences))):
        with torch.no_grad():
            logits_TV = model(item["input_ids"][None]).logits[0]
        is_target = item["loss_mask"][1:].bool()
        total += float(
            torch.nn.functional.cross_entropy(
                logits_TV[:-1][is_target], item["input_ids"][1:][is_target], reduction="sum"
            )
        )
        num_tokens += int(is_target.sum())
    return total / num_tokens


def test_the_first_loss_is_the_base_models_on_the_targets_alone(folder):
    base = AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=torch.float32)
    # every row in one batch: the order does not matter, and nothing is trained yet
    for name in ("lora", "full"):
        expected = mean_loss(base, TokenDataset(str(folder / name / "data/train.parquet")))
        # fp32 sums in another order and batch
        assert losses(folder, name)[1] == pytest.approx(expected, rel=1e-4)


def test_a_pass_sees_every_row_once(folder):
    rows = read_metrics(folder / "whole" / "metrics.jsonl")
    tokens = [row["train/global_tokens"] for row in rows]
    sequences = TokenDataset(str(folder / "whole" / "data/train.parquet"))
    every = sum(len(sequences[index]["input_ids"]) for index in range(len(sequences)))
    assert [sum(tokens[start : start + 4]) for start in (0, 4, 8)] == [every] * 3
    assert tokens[:4] != tokens[4:8]  # in another order


@pytest.mark.parametrize("directory", ["middle", "pass", "asked", "signalled"])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(folder, directory):
    whole = losses(folder, "whole")
    assert sorted(whole) == list(range(1, 13))  # though it was started once more when finished
    assert losses(folder, directory) == whole  # bit for bit
    vectors = [read_vectors(folder / name / "v.jsonl") for name in ("whole", directory)]
    assert list(vectors[0]) == list(range(1, 13))
    assert vectors[0] == vectors[1]
    saved = folder / directory / "checkpoints/global_step_12"
    assert fault(saved) is None
    v = load_file(str(saved / "adapter" / "adapter.safetensors"))["v"]
    assert v.tolist() == vectors[1][12]
    manifests = [
        read_manifest(folder / name / "checkpoints/global_step_12/adapter")
        for name in ("whole", directory)
    ]
    assert manifests[0]["payload_sha256"] == manifests[1]["payload_sha256"]
    assert manifests[0]["provenance"]["reward"] == "sft"


@pytest.mark.parametrize("directory", ["asked", "signalled"])
def test_a_run_that_was_asked_to_stop_saved_the_update_that_it_had_begun(folder, directory):
    assert fault(folder / directory / "checkpoints/global_step_1") is None  # save_freq is 2


def test_held_out_loss_is_measured_after_each_pass(folder):
    rows = read_metrics(folder / "whole" / "metrics.jsonl")
    assert [row["step"] for row in rows if "val/loss" in row] == [4, 8, 12]
    assert all(row["val/loss"] > 0 for row in rows if "val/loss" in row)


def test_the_policies_of_the_peers_load_and_have_learnt(folder):
    def base() -> torch.nn.Module:
        return AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=torch.float32)

    lora = PeftModel.from_pretrained(base(), folder / "lora" / "adapter")
    full = AutoModelForCausalLM.from_pretrained(folder / "full" / "model", dtype=torch.float32)
    assert type(full).__name__ == "Qwen2ForCausalLM"
    config = json.loads((folder / "full" / "model" / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    for name, model in (("lora", lora), ("full", full)):
        sequences = TokenDataset(str(folder / name / "data/train.parquet"))
        # below what the second update started from: both updates are in the policy
        assert mean_loss(model, sequences) < losses(folder, name)[2] < losses(folder, name)[1]
