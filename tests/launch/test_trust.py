"""Whom a run trusts: what is refused at the door, what is said, and what workers never load."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from tests.launch.trusting import (  # noqa: F401  # a fixture
    COMMIT,
    nothing_in_the_environment,
    on_cpu,
    on_gpus,
)
from tinylora_rl.errors import ConfigError
from tinylora_rl.launch.ray_access import CLUSTERS_ALLOWED
from tinylora_rl.launch.trust import NUMBERS_ONLY, check_trust, enforce_trust

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
    config = OmegaConf.create({"engine": {"options": {"trust_remote_code": "yes"}}})
    with pytest.raises(ConfigError, match=r"engine\.options\.trust_remote_code=yes"):
        check_trust(config)


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
    config = on_gpus(f"base_model.revision={COMMIT}")
    (line,) = check_trust(config)
    assert line.startswith("RAY_ADDRESS=10.0.0.1:4242: RAY_AUTH_MODE is not token")
    assert "export RAY_AUTH_MODE=token" in line
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert not check_trust(config)


def test_an_own_ray_whose_token_is_switched_off_is_warned_about(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert check_trust(on_cpu()) == [
        "RAY_AUTH_MODE=disabled: every user of this machine can run code in this run; unset it"
    ]


def test_a_dashboard_for_everyone_is_refused():
    with pytest.raises(ConfigError, match=r"dashboard_host=0\.0\.0\.0: whoever reaches"):
        check_trust(on_cpu(f"{DASHBOARD_HOST}=0.0.0.0"))
    assert not check_trust(on_cpu(f"{DASHBOARD_HOST}=127.0.0.1"))
    for config in (on_cpu(), on_gpus()):
        assert config.ray_kwargs.ray_init.include_dashboard is False


def test_a_token_that_others_read_is_warned_about(monkeypatch):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        token = Path(folder) / "auth_token"
        token.write_text("0" * 64)
        token.chmod(0o644)
        monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
        assert check_trust(on_cpu()) == [
            f"{token}: other users can read this token of Ray; run: chmod 600 {token}"
        ]
        token.chmod(0o600)
        assert not check_trust(on_cpu())


# -- what workers load -----------------------------------------------------------------------------


def test_workers_load_numbers_only(monkeypatch):
    monkeypatch.setenv(CLUSTERS_ALLOWED, "1")  # this process may have Ray already

    def variables(*settings: str) -> dict:
        config = on_cpu(*settings)
        enforce_trust(config)
        return config.ray_kwargs.ray_init.runtime_env.env_vars

    assert variables()[NUMBERS_ONLY] == "1"
    # verl pickles the checkpoints of LoRA and of whole models, TransferQueue its own
    assert NUMBERS_ONLY not in variables(f"{MODEL}.model_type=language_model")
    assert NUMBERS_ONLY not in variables("trainer.v1.trainer_mode=tinylora_separate_async")


def test_going_on_from_a_pickled_checkpoint_is_warned_about():
    peer = f"{MODEL}.model_type=language_model"
    (line,) = check_trust(on_cpu(peer, "trainer.resume=/elsewhere/global_step_3"))
    assert line.startswith("trainer.resume=/elsewhere/global_step_3: such a checkpoint is pickled")
    assert not check_trust(on_cpu(peer, "trainer.resume=auto"))
    assert not check_trust(on_cpu("trainer.resume=/elsewhere/global_step_3"))


def test_a_poisoned_data_file_is_not_run(tmp_path, monkeypatch):
    """The switch holds against the very call that verl makes."""

    class Poison:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    path = tmp_path / "data.pt"
    torch.save({"_num_yielded": Poison()}, path)
    monkeypatch.setenv(NUMBERS_ONLY, "1")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(path, weights_only=False)
    assert not (tmp_path / "owned").exists()
    torch.save({"_num_yielded": 3, "generator": torch.get_rng_state()}, path)
    assert torch.load(path, weights_only=False)["_num_yielded"] == 3


def test_verl_reads_data_with_pickle():
    """Why NUMBERS_ONLY is set. Remove it when this fails."""
    source = _verl("trainer/ppo/v1/trainer_base.py")
    assert "torch.load(dataloader_local_path, weights_only=False)" in source


def test_verl_trusts_code_in_its_reward_workers():
    """Why a base model that brings code is refused. See `refuse_code_of_its_own`."""
    source = _verl("experimental/reward_loop/reward_loop.py")
    assert "hf_tokenizer(input_tokenizer_local_path, trust_remote_code=True)" in source


def _verl(path: str) -> str:
    return (Path(find_spec("verl").origin).parent / path).read_text(encoding="utf-8")


def test_checking_imports_neither_torch_nor_ray():
    program = (
        "import sys; from tinylora_rl.launch.trust import check_trust; "
        "print({'torch', 'ray', 'verl', 'vllm'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
