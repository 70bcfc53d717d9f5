"""Where a run begins is decided, verified and said before anything is started."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.unit.supervised.conftest import make  # noqa: F401
from tinylora_rl import artifact
from tinylora_rl.adapter import CheckpointWeights, TinyLoraConfig, inject
from tinylora_rl.errors import ConfigError
from tinylora_rl.runs.checkpoints import commit
from tinylora_rl.tasks.arithmetic import base_model_dir
from tinylora_rl.training.resume import Beginning, choose_beginning

Begin = Callable[..., Beginning]


@pytest.fixture(scope="module")
def adapter_dir(tmp_path_factory) -> Path:
    """An adapter of the recipe's shape, saved."""
    model = AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=torch.float32)
    # a run's base is the checkpoint, whatever dtype it computes in
    adapter = inject(model, TinyLoraConfig(u=13), base=CheckpointWeights(base_model_dir()))
    return artifact.save(adapter, tmp_path_factory.mktemp("saved") / "adapter")


def checkpoint(run_dir: Path, step: int, adapter_dir: Path | None, data: str = "data.pt") -> Path:
    folder = run_dir / "checkpoints" / f"global_step_{step}"
    actor = folder / "actor" if data == "data.pt" else folder
    actor.mkdir(parents=True)
    if adapter_dir is not None:
        (actor / "adapter").mkdir()
        for file in adapter_dir.iterdir():
            (actor / "adapter" / file.name).write_bytes(file.read_bytes())
    torch.save({"position": step}, folder / data)
    commit(folder)
    return folder


@pytest.fixture
def begin(make) -> Begin:  # noqa: F811
    """`begin("trainer.resume=...", ...)`, of a run of the embedded recipe in `tmp_path`."""

    def with_overrides(*overrides: str, command: str = "train") -> Beginning:
        return choose_beginning(make(command, "+recipe=arithmetic_cpu", *overrides))

    return with_overrides


def test_auto_begins_at_nothing_or_at_the_newest_that_is_whole(begin, tmp_path, adapter_dir):
    assert begin() == Beginning(None)
    assert begin("trainer.resume=never") == Beginning(None)
    older = checkpoint(tmp_path, 1, adapter_dir)
    newest = checkpoint(tmp_path, 2, adapter_dir)
    assert begin() == Beginning(newest, (f"resuming from     {newest}",))
    damaged = bytearray((newest / "data.pt").read_bytes())
    damaged[-1] ^= 1
    (newest / "data.pt").write_bytes(damaged)
    beginning = begin()
    assert beginning.checkpoint == older
    assert beginning.lines == (
        f"checkpoint        {newest} is damaged (data.pt has another sha256)",
        f"resuming from     {older}",
    )
    (older / "actor" / "adapter" / "manifest.json").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"none of the 2 checkpoints .* is whole .*global_step_2 "
    ):
        begin()


def test_a_first_step_that_was_interrupted_is_taken_again(begin, tmp_path):
    torn = tmp_path / "checkpoints" / "global_step_1"
    torn.mkdir(parents=True)
    assert begin() == Beginning(
        None,
        (f"checkpoint        {torn} was not finished (no manifest.json)", "beginning anew"),
    )
    # a kill leaves one such folder; what has more was written by somebody else
    (tmp_path / "checkpoints" / "global_step_2").mkdir()
    with pytest.raises(ConfigError, match="none of the 2 checkpoints"):
        begin()


def test_never_overwrites_nothing(begin, tmp_path, adapter_dir):
    checkpoint(tmp_path, 1, adapter_dir)
    with pytest.raises(ConfigError, match=r"trainer.resume=never: .* has checkpoints already"):
        begin("trainer.resume=never")


@pytest.mark.parametrize("named", ["checkpoint", "checkpoints", "run"])
def test_another_runs_checkpoint_until_this_run_has_its_own(begin, tmp_path, adapter_dir, named):
    other = tmp_path / "other"
    there = checkpoint(other, 3, adapter_dir)
    path = {"checkpoint": there, "checkpoints": there.parent, "run": other}[named]
    assert begin(f"trainer.resume={path}") == Beginning(there, (f"resuming from     {there}",))
    own = checkpoint(tmp_path, 4, adapter_dir)
    assert begin(f"trainer.resume={path}").checkpoint == own


def test_what_another_run_has_that_does_not_fit_is_listed(begin, tmp_path, adapter_dir):
    there = checkpoint(tmp_path / "other", 3, adapter_dir)
    resume = f"trainer.resume={there}"
    with pytest.raises(ConfigError, match=r"adapter\.u=4 here, 13 there; adapter\.seed=7 here, 0"):
        begin(resume, "adapter.u=4", "adapter.seed=7")
    with pytest.raises(ConfigError, match="is of a TinyLoRA adapter, this run trains no TinyLoRA"):
        begin(resume, "adapter=lora")
    with pytest.raises(ConfigError, match=r"total_training_steps=3: .* has made 3 already"):
        begin(resume, "trainer.total_training_steps=3")
    with pytest.raises(ConfigError, match=r"is a checkpoint of tinylora_rl\.train"):
        begin(resume, "sft.steps=9", command="sft")


def test_another_base_model_is_found_by_its_weights(begin, tmp_path, adapter_dir):
    there = checkpoint(tmp_path / "other", 3, adapter_dir)
    model = AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=torch.float32)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3
    model.save_pretrained(tmp_path / "base")
    with pytest.raises(ConfigError, match="trained on another base model"):
        begin(f"trainer.resume={there}", f"base_model.path={tmp_path / 'base'}")


def test_paths_that_are_no_checkpoint(begin, tmp_path, adapter_dir):
    there = checkpoint(tmp_path / "other", 3, adapter_dir)
    (there / "manifest.json").unlink()
    with pytest.raises(ConfigError, match="was not finished"):
        begin(f"trainer.resume={there}")
    with pytest.raises(ConfigError, match="global_step_3 was not finished"):
        begin(f"trainer.resume={tmp_path / 'other'}")
    with pytest.raises(ConfigError, match="no such folder; give auto, never"):
        begin(f"trainer.resume={tmp_path / 'absent'}")


def test_going_back_in_the_same_run_is_refused(begin, tmp_path, adapter_dir):
    older, newest = (checkpoint(tmp_path, step, adapter_dir) for step in (1, 2))
    assert begin(f"trainer.resume={newest}").checkpoint == newest
    with pytest.raises(ConfigError, match="this run went on from there"):
        begin(f"trainer.resume={older}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.save_freq=2", "trainer.save_freq=2: a killed run would lose more"),
        ("trainer.resume_mode=disable", "trainer.resume_mode=disable: set trainer.resume"),
        ("run.time_limit_s=5", "run.time_limit_s=5: ending alone may take 20 s"),
        ("run.rollout_deadline_s=0", "run.rollout_deadline_s=0: use a number above 0"),
    ],
)
def test_settings_that_cannot_keep_a_run_are_refused(begin, override, message):
    with pytest.raises(ConfigError, match=message):
        begin(override)


def test_verl_gets_one_folder(make, tmp_path):  # noqa: F811
    experiment = make("train", "+recipe=arithmetic_cpu")
    tree = experiment.for_verl(checkpoint=tmp_path / "global_step_3")
    assert tree.trainer.resume_mode == "resume_path"
    assert tree.trainer.resume_from_path == str(tmp_path / "global_step_3")
    tree = experiment.for_verl()
    assert (tree.trainer.resume_mode, tree.trainer.resume_from_path) == ("disable", None)
