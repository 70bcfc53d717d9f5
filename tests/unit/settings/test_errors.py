"""Usual mistakes of a user: one line with key, value and fix, before any worker.

The checks run in this process; a few starts show that the command ends with code 2 or 3.
"""

import fcntl
import os
import shutil
import subprocess
import sys

import pytest

from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.settings import sections
from tinylora_rl.settings.compose import compose
from tinylora_rl.settings.experiment import Experiment, read
from tinylora_rl.settings.security import check_trust
from tinylora_rl.tasks.arithmetic import base_model_dir
from tinylora_rl.training.preflight import check_gpus, check_model, check_slots, check_verl
from tinylora_rl.training.tracking import check_tracking


def checked(*overrides: str) -> Experiment:
    """Makes the checks of `train`, in its order, that need neither Ray nor a run directory."""
    if not any(override.startswith(("data=", "+recipe=")) for override in overrides):
        overrides = ("data=arithmetic", *overrides)
    experiment = read(compose("train", overrides))
    check_trust(experiment)
    check_tracking(experiment.tracking)
    experiment.rows()
    check_gpus(experiment)
    check_slots(experiment)
    check_model(experiment)
    check_verl(experiment.for_verl(model_dir=experiment.base.folder))
    return experiment


@pytest.fixture
def model_without_tokenizer(tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(base_model_dir() / name, directory)
    return directory


@pytest.mark.filterwarnings("ignore:Disabled critic:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_usual_configuration_passes_every_check():
    assert checked().task.name == "arithmetic"


@pytest.mark.filterwarnings("ignore:Disabled critic:UserWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapter.u=0"], "adapter.u=0: use an integer of at least 1"),
        (["adapter.n_tie=0"], 'adapter.n_tie=0: use an integer of at least 1, or "all"'),
        (["+adapter.rank=4"], "adapter.rank=4: no such field; choose from"),
        (
            ["adapter.target_modules=[q_proj,w_proj]"],
            "adapter.target_modules=w_proj: Qwen2ForCausalLM has no such",
        ),
        (["adapter.r=500"], "adapter.r=500: the smallest adapted weight has rank"),
        (["sync.rounding=up"], "sync.rounding='up': choose from nearest, stochastic"),
        (
            ["data=gsm8k", "task.judge=boxed"],
            "task.judge=boxed: data.template=gsm8k_hash asks for an answer that it does not read",
        ),
        (["task.eval_rows=0"], "task.eval_rows=0: use a whole number of at least 1"),
        (
            ["task.judge=last"],
            "task.judge=last: choose from strict, flexible, boxed",
        ),
        (["data=gsm8k", "data.path=/nowhere"], "data.path=/nowhere"),
        (
            ["base_model.path=/nowhere"],
            "base_model.path=/nowhere: no such folder; give a folder or a hub id",
        ),
        (
            ["ray_kwargs.ray_init.num_cpus=4"],
            "ray_kwargs.ray_init.num_cpus=4: 4 CPU slots, verl needs 6 here",
        ),
        (
            ["task.max_response_tokens=4000", "base_model.max_response_tokens=null"],
            "exceed the model's",
        ),
        (["actor_rollout_ref.actor.strategy=fsdp"], "torch's FSDP1 needs CUDA; use fsdp2"),
        (
            ["actor_rollout_ref.model.model_type=language_model"],
            "model_type=language_model: choose adapter=tinylora, lora_xs, lora or full",
        ),
        (["trainer.n_gpus_per_node=3"], "128 samples a step are no multiple of 3 ranks"),
        (["trainer.max_actor_ckpt_to_keep=1"], "use 2 or more, or null"),
        (
            ["actor_rollout_ref.rollout.data_parallel_size=2"],
            "rollout.data_parallel_size=2: the weight sync does not reach such workers",
        ),
        (["actor_rollout_ref.actor.optim.optimizer=SGD"], "optimizer=torch.optim.SGD: checkpoints"),
        (["actor_rollout_ref.actor.use_dynamic_bsz=false"], "verl refuses the configuration"),
        (["task.prompts_per_step=4096"], "2048 training rows are fewer than one batch"),
        (["trainer.logger=[console,wandb]"], "WANDB_MODE=offline"),
        (["seed=abc"], "seed=abc: use a whole number of at least 0"),
        (["sync.deadline_s=abc"], "sync.deadline_s='abc': use a number"),
        (["run.poll_interval_s=0"], "run.poll_interval_s=0: use a number above 0"),
        (["cost.num_parameters=big"], "cost.num_parameters=big: use a whole number"),
        (["cost.cpu.step_s=-1"], "cost.cpu.step_s=-1: use a number above 0"),
        (["adapter=full", "+adapter.u=13"], "adapter.u=13: full fine-tuning has no options"),
        (["adapter=lora", "adapter.alpha=null"], "adapter.alpha: is missing"),
        (["adapter=lora", "adapter.target_modules=q_proj"], "q_proj': give a list"),
        (["adapter.target_modules=q_proj"], "q_proj': give a list"),
        (["adapter=plugin"], "method=null: choose from full, lora, tinylora"),
        (["plugins=[none.py]"], "plugins=none.py: "),
        (["plugins=3"], "plugins=3: give a list of files or modules"),
        (["seed=${nope}"], "seed: Interpolation key 'nope' not found"),
        (["~method"], "method"),
        (["task.max_prompt_tokens=x"], "data.max_prompt_length: TypeError"),
        (["base_model.path=null"], "base_model.path=null: give a text"),
        (["base_model.chat_template_kwargs=x"], "give keys and values, as {A: B}"),
        (["+device.engine.options.tensor_parallel_size=x"], "size=x: use a whole number"),
        (["sync.canary_prompt=3"], "sync.canary_prompt=3: give a text"),
        (["trainer.logger=[nope]"], "trainer.logger=nope: choose from wandb"),
        (["task.log_judges=[[a]]"], "give a list of texts"),
        (["data=custom", "data.path=3"], "data.path=3: give a text"),
        (["actor_rollout_ref.actor.optim.lr=-1"], "lr=-1: use a number of at least 0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_configuration_is_one_line_with_the_key(monkeypatch, overrides, message):
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_API_KEY", "")
    with pytest.raises(ConfigError) as caught:
        checked(*overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_data_path_without_rows(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text("")
    with pytest.raises(ConfigError, match="no rows") as caught:
        checked("data=gsm8k", f"data.path={tmp_path}")
    assert f"data.path={tmp_path}" in str(caught.value)


def test_a_model_without_tokenizer(model_without_tokenizer):
    with pytest.raises(ConfigError) as caught:
        checked(f"base_model.path={model_without_tokenizer}")
    message = f"base_model.path={model_without_tokenizer}: no tokenizer files"
    assert str(caught.value).startswith(message)


def test_cuda_without_a_gpu_is_the_machines_fault(monkeypatch):
    monkeypatch.setattr("tinylora_rl.training.preflight.num_gpus", lambda: 0)
    message = "device=cuda: no GPU is visible here; use device=cpu"
    with pytest.raises(MachineError, match=message) as caught:
        checked("device=cuda")
    assert caught.value.exit_code == 3


# -- starts of the command -------------------------------------------------------------------------


def attempt(tmp_path, *overrides: str, **env: str) -> tuple[int, str]:
    """Starts `train`; returns exit code and standard error."""
    result = subprocess.run(
        [sys.executable, "-m", "tinylora_rl.train", f"run.dir={tmp_path / 'run'}", *overrides],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "Traceback" not in result.stderr
    return result.returncode, result.stderr


def test_no_recipe_and_no_data_exits_with_2_and_names_one(tmp_path):
    code, said = attempt(tmp_path)
    [line] = said.splitlines()
    assert line.startswith("error: data.name=None: no data set is chosen; give a recipe")
    assert "+recipe=arithmetic_cpu" in line
    assert code == 2


@pytest.mark.parametrize("override", ["trainer.epochs=3", "+recipe=gsm9k"])
def test_an_unknown_key_or_recipe_exits_with_2(tmp_path, override):
    assert attempt(tmp_path, override)[0] == 2


def test_an_older_spelling_is_a_hint_and_a_run_directory_in_use_exits_with_2(tmp_path):
    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, said = attempt(tmp_path, "data=arithmetic", "platform=cpu")
    hint, error = said.splitlines()
    assert hint == "hint: platform=cpu: is now spelled device=cpu"
    assert "another run is writing there" in error
    assert code == 2


def test_a_disabled_plugin_exits_with_3(tmp_path):
    code, said = attempt(tmp_path, "data=arithmetic", VERL_USE_EXTERNAL_PLUGINS="none")
    assert "error: verl plugin: verl loaded no tinylora_rl plugin; unset" in said
    assert code == 3


def test_the_known_loggers_are_verls():
    from verl.utils.tracking import Tracking

    assert list(sections.LOGGERS) == Tracking.supported_backend


@pytest.mark.parametrize("body", ["raise SystemExit(0)", "1 +", "import torch_nope"])
def test_a_plugin_that_fails_is_one_line(tmp_path, body):
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(ConfigError, match=r"mine.py: .*; fix the plugin, or leave it out"):
        checked(f"plugins=[{tmp_path / 'mine.py'}]")


METHOD = """
from tinylora_rl.methods import Method, register_method

@register_method
class Mine(Method):
    name = "{name}"
    title = "mine"
"""


@pytest.mark.parametrize("body", [METHOD.format(name="mine"), METHOD.format(name="lora")])
def test_an_incomplete_method_is_refused(tmp_path, body):
    (tmp_path / "mine.py").write_text(body)
    with pytest.raises(ConfigError, match="derive it from Method, and define describe, from_"):
        checked(f"plugins=[{tmp_path / 'mine.py'}]")
