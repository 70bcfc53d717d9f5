"""Steps, tokens and hours that are stated before a run starts."""

import pytest

from tinylora_rl.planning.cost import estimate, model_parameters, planned_steps
from tinylora_rl.settings.compose import compose
from tinylora_rl.settings.experiment import read
from tinylora_rl.tasks.arithmetic import base_model_dir


def composed(*overrides: str):
    return read(compose("train", overrides))


def test_the_papers_steps():
    gsm8k, math = (composed(f"+recipe={name}") for name in ("gsm8k_qwen7b", "math_qwen7b"))
    assert planned_steps(gsm8k) == 7473 // 64 * 3 == 348
    assert planned_steps(math) == 8523 // 256 * 3 == 99
    assert gsm8k.total_steps(640) == 30
    assert planned_steps(composed("+recipe=gsm8k_qwen7b", "trainer.total_training_steps=5")) == 5
    many = composed("+recipe=gsm8k_qwen7b", "trainer.total_training_steps=1000")
    assert planned_steps(many) == 348  # verl ends with the last epoch


def test_an_estimate_is_its_stated_formula():
    experiment = composed(
        "+recipe=gsm8k_qwen7b",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
        "trainer.n_gpus_per_node=4",
        "cost.num_parameters=2e9",
    )
    cost = estimate(experiment)
    assumed = experiment.rates
    assert cost.tokens == 348 * 64 * 4 * (110 + 300)
    rate = assumed.tokens_per_s / 2  # of a model of 2e9
    expected_s = assumed.start_s + 348 * assumed.step_s + cost.tokens / (4 * rate)
    assert cost.seconds == pytest.approx(expected_s)
    assert cost.hours == pytest.approx(4 * expected_s / 3600)
    assert cost.unit == "GPU hours"
    assert f"{rate:,.0f} tokens/s a GPU for 2B parameters" in cost.assumption


def test_validation_and_limits_count():
    short = (
        "+recipe=gsm8k_qwen7b",
        "trainer.total_training_steps=40",
        "task.max_response_tokens=100",
    )
    without = estimate(composed(*short, "trainer.test_freq=-1", "trainer.val_before_train=false"))
    validated = estimate(composed(*short, "task.eval_rows=50"))
    assert without.tokens == 40 * 64 * 4 * (110 + 100)
    # before, at 20 and at 40; sampled once and greedily
    assert validated.tokens - without.tokens == 3 * 50 * 2 * (110 + 100)


def test_a_rollout_with_gpus_of_its_own_counts_them():
    colocated, separate = (
        estimate(composed("+recipe=gsm8k_qwen7b", f"placement={placement}"))
        for placement in ("colocated", "separate")
    )
    assert separate.num_devices == colocated.num_devices + 1


def test_the_embedded_recipe_is_minutes_of_this_cpu():
    cost = estimate(composed("+recipe=arithmetic_cpu"))
    assert cost.steps == 25
    assert cost.unit == "hours on this CPU"
    assert 60 < cost.seconds < 600


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", 7e9),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5e9),
        ("Qwen/Qwen2.5-Math-7B", 7e9),
        ("meta-llama/Llama-3.2-3B-Instruct", 3e9),
        ("Qwen/Qwen3-8B", 8e9),
        ("allenai/OLMo-2-1124-7B-SFT", 7e9),
        ("somebody/a-model", None),
    ],
)
def test_a_models_size_is_in_its_name(path, count):
    assert model_parameters(path) == count


def test_a_folders_size_is_in_its_weights():
    from safetensors import safe_open

    with safe_open(base_model_dir() / "model.safetensors", "pt") as file:
        count = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert model_parameters(str(base_model_dir())) == count
    unknown = composed("+recipe=gsm8k_qwen7b", "base_model.path=somebody/a-model")
    assert estimate(unknown) is None
