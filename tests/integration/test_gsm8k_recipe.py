"""The real recipe on real rows, with a tiny model: the code path of the GPU run."""

import pytest

from tests.integration.training import story, train

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("recipe", ["gsm8k_qwen7b_u13"])
def test_two_steps_on_gsm8k(recipe, tmp_path, real_gsm8k):
    finished = train(
        tmp_path,
        f"+recipe={recipe}",
        "platform=cpu",  # the older spelling of device=cpu
        "model=tiny",
        f"data.path={real_gsm8k}",
        "task.prompts_per_step=16",
        "task.eval_rows=4",
        "trainer.total_training_steps=2",
        WANDB_MODE="offline",
    )
    assert finished.code == 0, story(finished)
    steps = finished.steps
    assert steps[2]["tinylora/num_parameters"] == 13
    assert steps[2]["sync/policy_version"] == 2
    assert {"reward/strict", "reward/flexible", "reward/no_answer_frac"} <= set(steps[2])
    assert "val-core/openai/gsm8k_greedy/acc/mean@1" in steps[0]
