"""What a run is going to take, before it is started: steps, tokens and hours, under assumptions.

The assumptions are the configuration's group `cost`. Time is a start, a fixed part of every step,
and every token at a rate in inverse proportion to the model's size. An order of magnitude, to tell
an afternoon from a month; what a run took is in its `metrics.jsonl`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tinylora_rl.tasks import make_task
from tinylora_rl.tasks.prepare import benchmark_tasks

USUAL_ROWS = 8_000  # of a data set whose number of rows is not recorded
SIZE_IN_NAME = re.compile(r"(\d+(?:\.\d+)?)[bB](?![a-zA-Z])")  # Qwen2.5-7B-Instruct: 7


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """The estimate of one run.

    Attributes:
        steps: of the optimiser.
        tokens: prompts and responses of all steps and validations.
        num_devices: GPUs, or CPU ranks.
        seconds: from start to end.
        assumption: what `seconds` rests on, in one line.
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


def estimate(config: DictConfig) -> Cost | None:
    """The cost of the run that `config` (of `train` or `sft`) describes; reads no data, no hub.

    None where the size of the model is unknown: `cost.num_parameters` states it.
    """
    num_parameters = config.cost.num_parameters or model_parameters(config.base_model.path)
    if num_parameters is None:
        return None
    is_rl = config.verb == "train"
    device = str(config.trainer.device)
    num_devices = config.trainer.nnodes * config.trainer.n_gpus_per_node
    # those of the rollout's own, where it is not colocated
    num_devices += config.placement.rollout_gpus * config.actor_rollout_ref.rollout.nnodes
    assumed = config.cost[device]
    lengths = config.cost.tokens.get(config.data.name, config.cost.tokens.other)
    prompt = _capped(lengths.prompt, OmegaConf.select(config, "data.max_prompt_length"))
    response = _capped(lengths.response, OmegaConf.select(config, "data.max_response_length"))
    steps = total_steps(config)
    samples = _batch(config) * (config.actor_rollout_ref.rollout.n if is_rl else 1)
    num_sequences = steps * samples + _validated(config, steps)
    tokens = num_sequences * (prompt + response)
    rate = (assumed.tokens_per_s if is_rl else assumed.sft_tokens_per_s) * 1e9 / num_parameters
    seconds = assumed.start_s + steps * assumed.step_s + tokens / (rate * num_devices)
    return Cost(
        steps=steps,
        tokens=tokens,
        device=device,
        num_devices=num_devices,
        seconds=seconds,
        assumption=(
            f"{prompt} + {response} tokens a sample, {rate:,.0f} tokens/s "
            f"{'a GPU' if device == 'cuda' else 'here'} for {num_parameters / 1e9:.3g}B "
            f"parameters, {assumed.step_s:g} s more a step, {assumed.start_s:g} s to start"
        ),
    )


def total_steps(config: DictConfig, num_rows: int | None = None) -> int:
    """The steps of a run: as many as are stated, at most what its epochs have.

    Args:
        num_rows: of the training data; None: as many as its data set has.
    """
    task = make_task(config.data.name, config.data)
    rows = (task.num_rows("train") or USUAL_ROWS) if num_rows is None else num_rows
    if config.verb == "sft":
        steps = rows // _batch(config) * config.sft.epochs
        return steps if config.sft.steps is None else config.sft.steps
    steps = rows // _batch(config) * config.trainer.total_epochs
    stated = config.trainer.total_training_steps
    return steps if stated is None else min(stated, steps)


def _batch(config: DictConfig) -> int:
    """Rows in one update."""
    return int(config.sft.batch_size if config.verb == "sft" else config.data.train_batch_size)


def model_parameters(path: str) -> int | None:
    """How many numbers the model at `path` has: by its weights in a folder, or by its name.

    The files' headers are read, not the weights.
    """
    folder = Path(path).expanduser()
    shards = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if shards:
        return sum(_numbers_in(shard) for shard in shards)
    named = SIZE_IN_NAME.findall(path.rstrip("/").rpartition("/")[2])
    return round(float(named[-1]) * 1e9) if named else None


def _numbers_in(shard: Path) -> int:
    with shard.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(
        math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"
    )


def _validated(config: DictConfig, steps: int) -> int:
    """Responses of all validations of a run; `sft` validates before and after."""
    task = make_task(config.data.name, config.data)
    tasks = [task, *benchmark_tasks(task, config.task.eval_benchmarks)]
    counts = [each.num_rows("test") or USUAL_ROWS for each in tasks]
    rows = sum(min(count, config.task.eval_rows or count) for count in counts)
    if config.verb == "sft":
        often = int(config.sft.evaluate) * (1 + bool(config.trainer.val_before_train))
    else:
        often = steps // config.trainer.test_freq if config.trainer.test_freq > 0 else 0
        often += bool(config.trainer.val_before_train)
    return int(often * rows * (config.task.eval_samples + bool(config.task.eval_greedy)))


def _capped(value: int, limit: Any) -> int:
    return int(value if limit is None else min(value, limit))
