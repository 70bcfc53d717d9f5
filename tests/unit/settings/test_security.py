"""Whom a run trusts: refusals at the start, warnings, and files that workers never load."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tests.unit.settings.trusting import (  # noqa: F401  # a fixture
    COMMIT,
    nothing_in_the_environment,
    on_cpu,
    on_gpus,
)
from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.compose import compose
from tinylora_rl.settings.evaluation import read_evaluation
from tinylora_rl.settings.experiment import read
from tinylora_rl.settings.security import check_trust
from tinylora_rl.training.ray_setup import check_ray
from tinylora_rl.training.resume import refuse_pickled_code

MODEL = "actor_rollout_ref.model"
VLLM = "actor_rollout_ref.rollout.engine_kwargs.vllm"
DASHBOARD_HOST = "ray_kwargs.ray_init.dashboard_host"


@pytest.mark.parametrize(
    "key",
    [
        f"{MODEL}.trust_remote_code",
        "data.trust_remote_code",
        "critic.model.trust_remote_code",
        f"{VLLM}.trust-remote-code",
        f"{VLLM}.trust_remote_code",
    ],
)
def test_remote_code_is_refused_wherever_it_stands(key):
    with pytest.raises(ConfigError, match="code from a model's repository is never run") as caught:
        check_trust(on_cpu(f"{key}=true"))
    assert str(caught.value).startswith(f"{key}=True: ")
    assert not check_trust(on_cpu(f"{key}=false"))


def test_remote_code_is_refused_in_an_evaluation():
    config = compose("evaluate", ["+device.engine.options.trust_remote_code=yes"])
    with pytest.raises(ConfigError, match=r"engine\.options\.trust_remote_code=yes"):
        check_trust(read_evaluation(config))


def test_a_hub_model_without_a_commit_is_warned_about():
    (line,) = check_trust(on_gpus())
    assert line.startswith("base_model.revision=null: Qwen/Qwen2.5-7B-Instruct is taken as")
    assert not check_trust(on_gpus(f"base_model.revision={COMMIT}"))
    assert not check_trust(on_cpu())


@pytest.mark.parametrize(
    ("config", "revision", "message"),
    [
        (on_gpus, "main", "base_model.revision=main: branches and tags move"),
        (on_gpus, "a09a354", "use the 40 hexadecimal digits of a commit"),
        (on_cpu, COMMIT, "is a folder, which has none; use null"),
    ],
)
def test_a_revision_is_a_commit_of_a_hub_model(config, revision, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_trust(config(f"base_model.revision={revision}"))


def test_a_cluster_without_a_token_is_warned_about(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:4242")
    ray = on_gpus(f"base_model.revision={COMMIT}").ray
    (line,) = check_ray(ray)
    assert line.startswith("RAY_ADDRESS=10.0.0.1:4242: RAY_AUTH_MODE is not token")
    assert "export RAY_AUTH_MODE=token" in line
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert not check_ray(ray)


def test_an_own_ray_whose_token_is_switched_off_is_warned_about(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert check_ray(on_cpu().ray) == [
        "RAY_AUTH_MODE=disabled: every user of this machine can run code in this run; unset it"
    ]


def test_a_dashboard_for_everyone_is_refused():
    with pytest.raises(ConfigError, match=r"dashboard_host=0\.0\.0\.0: whoever reaches"):
        check_ray(on_cpu(f"{DASHBOARD_HOST}=0.0.0.0").ray)
    assert not check_ray(on_cpu(f"{DASHBOARD_HOST}=127.0.0.1").ray)
    for config in (on_cpu(), on_gpus()):
        assert config.tree.ray_kwargs.ray_init.include_dashboard is False


def test_a_token_that_others_read_is_warned_about(monkeypatch):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        token = Path(folder) / "auth_token"
        token.write_text("0" * 64)
        token.chmod(0o644)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        assert check_ray(on_cpu().ray) == [
            f"{token}: other users can read this token of Ray; run: chmod 600 {token}"
        ]
        token.chmod(0o600)
        assert not check_ray(on_cpu().ray)


# -- checkpoints -----------------------------------------------------------------------------------


def test_going_on_from_a_pickled_checkpoint_is_warned_about():
    def full(resume: str):
        overrides = ["+recipe=arithmetic_cpu", "adapter=full", f"trainer.resume={resume}"]
        return read(compose("train", overrides))

    (line,) = check_trust(full("/elsewhere/global_step_3"))
    assert line.startswith("trainer.resume=/elsewhere/global_step_3: such a checkpoint is pickled")
    assert not check_trust(full("auto"))
    assert not check_trust(on_cpu("trainer.resume=/elsewhere/global_step_3"))


@pytest.mark.parametrize("name", ["data.pt", "data_1.pt"])
def test_a_poisoned_data_file_is_refused_and_not_run(tmp_path, name):
    class Poison:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"_num_yielded": Poison()}, tmp_path / name)
    with pytest.raises(ConfigError, match=rf"{name}: is damaged, or holds more than numbers"):
        refuse_pickled_code(tmp_path)
    assert not (tmp_path / "owned").exists()
    torch.load(tmp_path / name, weights_only=False)  # what verl would do
    assert (tmp_path / "owned").exists()


def test_a_position_in_the_data_is_let_through(tmp_path):
    sampler = {"yielded": 48, "generator": torch.get_rng_state()}  # as verl's loader states it
    state = {"_sampler_iter_state": {"samples_yielded": 48, "sampler_iter_state": sampler}}
    torch.save({**state, "_num_yielded": 3, "fetcher_state": None}, tmp_path / "data.pt")
    refuse_pickled_code(tmp_path)
    (tmp_path / "data.pt").write_bytes(b"PK torn")
    with pytest.raises(ConfigError, match="resume from another checkpoint") as caught:
        refuse_pickled_code(tmp_path)
    assert "\n" not in str(caught.value)


def test_verl_reads_data_with_pickle():
    """Why `refuse_pickled_code` is there. Remove it when this fails."""
    for path in ("trainer/ppo/v1/trainer_base.py", "utils/checkpoint/checkpoint_handler.py"):
        assert re.search(r"torch\.load\(dataloader\w*_path, .*weights_only=False", _verl(path))


def test_verl_trusts_code_in_its_reward_workers():
    """Why a base model that brings code is refused. See `refuse_code_of_its_own`."""
    source = _verl("experimental/reward_loop/reward_loop.py")
    assert "hf_tokenizer(input_tokenizer_local_path, trust_remote_code=True)" in source


def _verl(path: str) -> str:
    return (Path(find_spec("verl").origin).parent / path).read_text(encoding="utf-8")


def test_checking_imports_neither_torch_nor_ray():
    program = (
        "import sys; from tinylora_rl.settings.security import check_trust; "
        "print({'torch', 'ray', 'verl', 'vllm'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
