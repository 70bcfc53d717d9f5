"""Estimates steps, tokens and hours of a run before it starts: an order of magnitude.

The assumptions are the configuration's group `cost` and each task's mean lengths. Time is a start,
a fixed part of every step, and every token at a rate in inverse proportion to the model's size.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from tinylora_rl.base_model.dims import num_stored_parameters
from tinylora_rl.settings.experiment import Experiment
from tinylora_rl.tasks import benchmark_tasks

USUAL_ROWS = 8_000  # of a data set whose number of rows is not recorded
SIZE_IN_NAME = re.compile(r"(\d+(?:\.\d+)?)[bB](?![a-zA-Z])")  # Qwen2.5-7B-Instruct: 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """The estimate of one run.

    `tokens` are prompts and responses of all steps and validations; `num_devices` GPUs, or CPU
    ranks; `assumption` is what `seconds` rests on, in one line.
    """

    steps: int
    tokens: int
    device: str
    num_devices: int
    seconds: float
    assumption: str

    @property
    def hours(self) -> float:
        """GPU hours; on a CPU hours of the machine."""
        return self.seconds / 3600 * (self.num_devices if self.device == "cuda" else 1)

    @property
    def unit(self) -> str:
        return "GPU hours" if self.device == "cuda" else "hours on this CPU"


def estimate(experiment: Experiment) -> Cost | None:
    """Estimates the cost of a run; reads no data and asks no hub.

    None where the size of the model is unknown: `cost.num_parameters` states it.
    """
    num_parameters = experiment.num_parameters or model_parameters(experiment.base.id)
    if num_parameters is None:
        return None
    batch, rates, is_rl = experiment.batch, experiment.rates, experiment.is_rl
    device, num_devices = experiment.hardware.kind, experiment.hardware.num_devices
    lengths = experiment.task.mean_tokens
    prompt = min(lengths.prompt, batch.max_prompt_tokens)
    response = min(lengths.response, batch.max_response_tokens)
    steps = planned_steps(experiment)
    samples = experiment.update_rows * (batch.samples if is_rl else 1)
    num_sequences = steps * samples + _validated(experiment, steps)
    tokens = num_sequences * (prompt + response)
    rate = (rates.tokens_per_s if is_rl else rates.sft_tokens_per_s) * 1e9 / num_parameters
    seconds = rates.start_s + steps * rates.step_s + tokens / (rate * num_devices)
    return Cost(
        steps=steps,
        tokens=tokens,
        device=device,
        num_devices=num_devices,
        seconds=seconds,
        assumption=(
            f"{prompt} + {response} tokens a sample, {rate:,.0f} tokens/s "
            f"{'a GPU' if device == 'cuda' else 'here'} for {num_parameters / 1e9:.3g}B "
            f"parameters, {rates.step_s:g} s more a step, {rates.start_s:g} s to start"
        ),
    )


def planned_steps(experiment: Experiment) -> int:
    """Counts the steps of a run, on as many rows as its data set is known to have."""
    return experiment.total_steps(experiment.task.num_rows("train") or USUAL_ROWS)


def model_parameters(path: str) -> int | None:
    """Counts the numbers of a model by the weights in its folder, or else by its name."""
    folder = Path(path).expanduser()
    if folder.is_dir() and (count := num_stored_parameters(folder)):
        return count
    named = SIZE_IN_NAME.findall(path.rstrip("/").rpartition("/")[2])
    return round(float(named[-1]) * 1e9) if named else None


def _validated(experiment: Experiment, steps: int) -> int:
    """Counts the responses of all validations; `sft` validates before and after."""
    validation, sft = experiment.validation, experiment.supervised
    tasks = [experiment.task, *benchmark_tasks(experiment.task, validation.benchmarks)]
    counts = [each.num_rows("test") or USUAL_ROWS for each in tasks]
    rows = sum(min(count, validation.rows or count) for count in counts)
    if sft is not None:
        often = int(sft.evaluate) * (1 + validation.before_training)
    else:
        often = steps // validation.every if validation.every > 0 else 0
        often += validation.before_training
    return often * rows * validation.draws
