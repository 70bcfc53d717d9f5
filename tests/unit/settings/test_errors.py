"""What a user gets wrong first: one line with key, value and mend, exit code 2 or 3, before any
worker.
"""

import shutil
import subprocess
import sys

import pytest

from tinylora_rl.tasks import gsm8k  # noqa: F401  # the room whose messages are passed on
from tinylora_rl.tasks.arithmetic import base_model_dir


def attempt(tmp_path, *overrides: str, **env: str) -> tuple[int, str]:
    import os

    if not any(override.startswith(("data=", "+recipe=")) for override in overrides):
        overrides = ("data=arithmetic", *overrides)
    result = subprocess.run(
        [sys.executable, "-m", "tinylora_rl.train", f"run.dir={tmp_path / 'run'}", *overrides],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.returncode, lines[0]


@pytest.fixture
def model_without_tokenizer(tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(base_model_dir() / name, directory)
    return directory


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
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_configuration_exits_with_2(tmp_path, overrides, message):
    code, line = attempt(tmp_path, *overrides, WANDB_MODE="online", WANDB_API_KEY="")
    assert message in line
    assert code == 2


def test_a_data_path_without_rows_exits_with_2(tmp_path):
    folder = tmp_path / "rows"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("")
    code, line = attempt(tmp_path, "data=gsm8k", f"data.path={folder}")
    assert f"data.path={folder}" in line
    assert "no rows" in line
    assert code == 2


def test_a_model_without_tokenizer_exits_with_2(tmp_path, model_without_tokenizer):
    code, line = attempt(tmp_path, f"base_model.path={model_without_tokenizer}")
    assert f"base_model.path={model_without_tokenizer}: no tokenizer files" in line
    assert code == 2


def test_an_unknown_key_or_recipe_exits_with_2(tmp_path):
    for override in ("trainer.epochs=3", "+recipe=gsm9k"):
        result = subprocess.run(
            [sys.executable, "-m", "tinylora_rl.train", f"run.dir={tmp_path}", override],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 2, result.stderr


def test_a_disabled_plugin_exits_with_3(tmp_path):
    code, line = attempt(tmp_path, VERL_USE_EXTERNAL_PLUGINS="none")
    assert "unset VERL_USE_EXTERNAL_PLUGINS" in line
    assert code == 3


def test_no_recipe_and_no_data_exits_with_2_and_names_one(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "tinylora_rl.train", f"run.dir={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "give a recipe (+recipe=arithmetic_cpu)" in result.stderr
    assert result.returncode == 2


def test_a_run_directory_in_use_exits_with_2(tmp_path):
    import fcntl

    (tmp_path / "run").mkdir()
    with (tmp_path / "run" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        code, line = attempt(tmp_path)
    assert "another run is writing there" in line
    assert code == 2


def test_cuda_without_a_gpu_exits_with_3(tmp_path):
    code, line = attempt(tmp_path, "platform=cuda", CUDA_VISIBLE_DEVICES="")
    assert "platform=cuda: no GPU is visible here; use platform=cpu" in line
    assert code == 3
