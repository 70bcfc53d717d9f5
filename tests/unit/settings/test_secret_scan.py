"""No secret gets into what a run writes of its configuration."""

import pytest

from tests.unit.settings.trusting import (  # noqa: F401  # a fixture
    COMMIT,
    nothing_in_the_environment,
    on_cpu,
    on_gpus,
)
from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.security import check_trust, refuse_secrets

HUB_TOKEN = "hf_" + "aB3" * 12
WANDB_KEY = "0123456789abcdef" * 3
ENV_VARS = "ray_kwargs.ray_init.runtime_env.env_vars"


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (f"{ENV_VARS}.WANDB_API_KEY={WANDB_KEY}", "is named like a secret and has a value"),
        (f"{ENV_VARS}.AWS_SECRET_ACCESS_KEY=abc", "is named like a secret and has a value"),
        ("trainer.wandb_api_key=abc", "is named like a secret and has a value"),
        (f"{ENV_VARS}.HARMLESS={HUB_TOKEN}", "looks like a secret"),
        ("trainer.project_name=sk-a1b2a1b2a1b2a1b2a1b2", "looks like a secret"),
        ("data.path=https://me:pass@host/rows", "looks like a secret"),
    ],
)
def test_a_secret_in_the_configuration_is_refused_unshown(setting, reason):
    key, _, value = setting.partition("=")
    with pytest.raises(ConfigError) as caught:
        check_trust(on_cpu(setting))
    message = str(caught.value)
    assert message.startswith(f"{key}: {reason} (not shown); ")
    assert value not in message
    assert "set the variable in the environment" in message


@pytest.mark.parametrize("value", ["${oc.env:WANDB_API_KEY}", "${oc.env:NAME}", f"x{WANDB_KEY}"])
def test_what_the_environment_holds_as_a_secret_is_found_under_any_name(monkeypatch, value):
    monkeypatch.setenv("WANDB_API_KEY", WANDB_KEY)
    monkeypatch.setenv("NAME", HUB_TOKEN)
    config = {"note": [{"deep": value}]}
    with pytest.raises(ConfigError, match=r"note\.deep: (copies|holds the value of) [A-Z_]+") as c:
        refuse_secrets(config)
    assert WANDB_KEY not in str(c.value)


def test_commits_and_verls_own_keys_are_no_secrets():
    """verl has `trace.token2text`, `skip_tokenizer_init`, `teacher_key: data_source`."""
    check_trust(on_gpus(f"base_model.revision={COMMIT}"))
    refuse_secrets({"max_tokens": 3, "eos_token": "<|im_end|>", "token": ""})


@pytest.mark.parametrize("config", [on_cpu, on_gpus])
def test_what_a_run_writes_of_its_configuration_holds_no_secret(monkeypatch, config):
    """config.yaml, and what verl prints and hands to Ray, with secrets in the environment."""
    known = {"WANDB_API_KEY": WANDB_KEY, "HF_TOKEN": HUB_TOKEN, "RAY_AUTH_TOKEN": "e" * 64}
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    run = config()
    check_trust(run)
    tree = run.for_verl()
    written = run.stored(tree) + str(get_ppo_ray_runtime_env(tree))
    assert "gsm8k" in written or "arithmetic" in written
    for value in known.values():
        assert value not in written
