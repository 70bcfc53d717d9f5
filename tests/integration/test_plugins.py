"""A method, a task and a judge of a user's own, each one file: trained, asked and paid in one run.

The files are the code blocks of docs/how_to, and a judge that pays what this model can write.
"""

import json
import os
import re
from pathlib import Path

import pytest

from tests.integration.training import REPOSITORY, story, train

pytestmark = pytest.mark.e2e
SHORT = 25  # characters
JUDGE = f"""
from tinylora_rl.rewards import register_judge

register_judge("short", grader=lambda response, gold: len(response) < {SHORT})
"""


def write_block(page: str, folder: Path) -> Path:
    """Writes the first Python block of a how-to page under the name that it opens with."""
    text = (REPOSITORY / "docs" / "how_to" / page).read_text()
    body = re.search(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)[1]
    file = folder / re.match(r'"""(\w+\.py):', body)[1]
    file.write_text(body)
    return file


def test_a_method_a_task_and_a_judge_of_ones_own_train_ask_and_pay(tmp_path):
    files = [
        write_block(page, tmp_path) for page in ("add_method.md", "add_task.md", "add_judge.md")
    ]
    files.append(tmp_path / "short.py")
    files[-1].write_text(JUDGE)
    finished = train(
        tmp_path / "run",
        "+recipe=arithmetic_cpu",
        f"plugins=[{','.join(os.path.relpath(file, REPOSITORY) for file in files)}]",
        "adapter=plugin",
        "method=norms",
        "data.name=parity",
        "task.judge=short",
        "task.log_judges=[letter,strict]",
        "task.prompts_per_step=8",
        "task.samples_per_prompt=4",
        "task.eval_rows=8",
        "trainer.total_training_steps=2",
        "trainer.test_freq=2",
        "trainer.save_freq=2",
        "actor_rollout_ref.actor.optim.lr=1e-2",
    )
    assert finished.code == 0, story(finished)
    assert "numbers of 7 norms" in finished.console  # two of each block, and the last
    assert "parity, 512 training and 8 held-out rows" in finished.console
    steps = finished.steps
    assert sorted(steps) == [0, 1, 2]
    assert steps[2]["reward/letter"] == 0  # nobody answers with a letter
    assert steps[1]["reward/score"] == steps[1]["reward/acc"] > 0
    validated = (finished.run.samples / "0.jsonl").read_text().splitlines()
    for sample in map(json.loads, validated):
        assert sample["score"] == (len(sample["output"]) < SHORT), sample
    assert steps[2]["sync/num_acknowledgements"] == 1
    assert not finished.run.vectors.exists()
    # sampled after the norms have moved: the rollout has the trained weights
    assert steps[2]["training/rollout_actor_probs_pearson_corr"] > 0.999
