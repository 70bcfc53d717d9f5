"""Run directories as a training writes them, with metrics made from a formula."""

import dataclasses
import json
import math
import random
from pathlib import Path

from omegaconf import OmegaConf

from tinylora_rl.runs.directory import MetricsFile, RunDirectory
from tinylora_rl.runs.status import STATUS_FILE, Status
from tinylora_rl.tasks.arithmetic import base_model_dir

NUM_MODULES = 21


def make_run(
    directory: Path,
    *,
    verb: str = "train",
    adapter: dict | None = None,
    learning_rate: float = 5e-3,
    seed: int = 0,
    accuracy: float = 0.9,
    untrained: float = 0.1,
    num_steps: int = 12,
    state: str | None = "finished",
    task: str = "arithmetic",
    model: str | None = None,
    metrics: dict | None = None,
    settings: dict | None = None,
) -> Path:
    """A run directory whose reward climbs to `accuracy`; `metrics` are added to each step."""
    run = RunDirectory(directory)
    directory.mkdir(parents=True)
    adapter = {"r": 2, "u": 13, "n_tie": "all", "tie_mode": "tiled"} if adapter is None else adapter
    config = {
        "command": verb,
        "seed": seed,
        "task": {"recipe": directory.name, "judge": "strict", "prompts_per_step": 16},
        "data": {"name": task, "seed": seed, "train_files": f"{directory}/data/train.parquet"},
        "adapter": {**adapter, "seed": seed} if adapter else {},
        "base_model": {"path": model or str(base_model_dir())},
        "run": {"dir": str(directory)},
        "trainer": {"total_training_steps": num_steps, "project_name": "tinylora-rl"},
        "actor_rollout_ref": {"actor": {"optim": {"lr": learning_rate}}},
        **(settings or {}),
    }
    OmegaConf.save(OmegaConf.create(config), run.config)
    if state is not None:
        write_status(directory, verb, state, num_steps)
    file = MetricsFile(run.metrics)
    file.log(_validated(task, untrained), 0)
    for step in range(1, num_steps + 1):
        file.log({**_step(verb, adapter, step, num_steps, accuracy, seed), **(metrics or {})}, step)
    file.log(_validated(task, accuracy), num_steps)
    return directory


def write_status(directory: Path, verb: str, state: str, num_steps: int) -> None:
    status = Status(
        verb=verb,
        state=state,
        exit_code=None if state == "running" else 0 if state == "finished" else 1,
        started="2026-01-01T00:00:00+00:00",
        ended=None,
        steps=num_steps,
        total_steps=num_steps,
    )
    (directory / STATUS_FILE).write_text(json.dumps(dataclasses.asdict(status)))


def count_of(adapter: dict) -> int:
    n_tie = NUM_MODULES if adapter.get("n_tie") == "all" else adapter.get("n_tie", 1)
    return adapter["u"] * -(-NUM_MODULES // n_tie)


def _validated(task: str, accuracy: float) -> dict:
    return {
        f"val-core/{task}/acc/mean@2": 0.9 * accuracy,
        f"val-core/{task}_greedy/acc/mean@1": accuracy,
    }


def _step(verb: str, adapter: dict, step: int, num_steps: int, accuracy: float, seed: int) -> dict:
    draw = random.Random(1000 * seed + step)
    done = 1 - math.exp(-4 * step / num_steps)
    noise = draw.gauss(0, 0.02)
    row = {"timing_s/step": 4 + draw.random()}
    if "u" in adapter:
        row |= {
            "tinylora/num_parameters": count_of(adapter),
            "tinylora/v_norm": 0.005 * step * adapter["u"] ** 0.5,
            "tinylora/relative_delta_norm": 0.002 * step,
            "sync/survival": min(1.0, 0.3 + 0.06 * step),
            **{f"tinylora/v/{i:02}": 0.005 * step * draw.gauss(0, 1) for i in range(adapter["u"])},
        }
    if verb == "sft":
        return {
            **row,
            "train/loss": 2.0 - (accuracy - 0.1) * done + 0.2 * noise,
            "train/grad_norm": 1.0,
        }
    return row | {
        "critic/score/mean": min(1.0, max(0.0, 0.1 + (accuracy - 0.1) * done + noise)),
        "response_length/mean": 12 + 14 * done + 20 * noise,
        "response_length/clip_ratio": max(0.0, 0.05 - 0.05 * done),
        "training/rollout_probs_diff_mean": 0.002 + 0.0005 * draw.random(),
        "training/rollout_actor_probs_pearson_corr": 0.9995,
        "reward/strict": min(1.0, max(0.0, 0.1 + (accuracy - 0.1) * done + noise)),
        "reward/flexible": min(1.0, max(0.0, 0.15 + (accuracy - 0.1) * done + noise)),
        "reward/no_answer_frac": 0.02,
        "reward/timeout_frac": 0.0,
        "reward/grade_s/p99": 0.002,
        "group/zero_std_frac": 0.2 + 0.3 * done,
        "signal/snr_mean": 0.6,
        "signal/snr_min": 0.2,
        "actor/grad_norm": 0.5 + 0.1 * draw.random(),
        "sync/seconds": 0.05,
        "sync/bytes": 1.3e6,
        "sync/canary_actor_diff": 1e-4,
        "sync/canary_base_distance": 1e-2 * step,
        "sync/canary_policy_distance": 1e-2 * step,
    }
