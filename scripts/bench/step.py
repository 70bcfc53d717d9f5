"""Measures a GRPO step of the embedded task by ours, verl's LoRA recipe and TRL's trainer.

    python scripts/bench/step.py                                   # ours and verl, on a CPU
    python scripts/bench/step.py --trl-python TRL_VENV/bin/python  # and TRL with PEFT's TinyLoRA

TRL is no dependency of ours; its environment has no vLLM, Ray or verl:

    uv venv TRL_VENV --python 3.11
    uv pip install --python TRL_VENV/bin/python --compile-bytecode --torch-backend cpu \\
        trl==1.16.0 peft==0.21.2 transformers==5.10.4 accelerate==1.15.0 datasets==5.2.0 \\
        torch==2.13.0

ours         `tinylora_rl.train +recipe=arithmetic_cpu`: TinyLoRA, 13 numbers
verl         `verl.trainer.main_ppo` with its own trainer, agent loop, rollout, engine and PEFT
             LoRA, whose factors go to vLLM. Its settings are our recipe's, less our classes; of
             ours it has the CPU platform alone (step_verl.py)
verl-polled  the same, but looking every 0.1 s, as ours does, whether a rollout is complete, where
             verl looks every 2 s
TRL          `GRPOTrainer` and PEFT's TinyLoRA with the same count, rank and tying; transformers
             samples in the trainer's process (step_trl.py)

The same model in fp32, the same 2,048 rows, 16 prompts x 8 samples, at most 64 response tokens, the
strict judge, Adam without decay, one update a step on one micro-batch, OMP_NUM_THREADS=--threads in
every process. What differs: each shuffles by itself; TRL pads to the longest response and needs
neither a sync nor a second pass for log-probs, since sampler and trainer are one model; ours saves
a checkpoint and proves the sync in every step; ours and verl correct for the sampler's log-probs.
LoRA's learning rate is lower: its numbers are thousands.

A step is the time from one line of metrics to the next; the first --warm-up of each training are
left out. rollout, log-prob, update and sync are the trainers' own clocks (verl's timing_s); what is
left is `other`: advantages, metrics, checkpoint. Trainings take turns, in the other order each
round; a ratio is taken within a round. CPU seconds are those of all processes of a training: on a
busy machine read them, not the wall. Median (range). Three Markdown tables on stdout: steps,
starts, where the CPU seconds of a step go; one JSON object per training on stderr. Run it on an
idle machine: 9 minutes with TRL.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
from omegaconf import DictConfig, OmegaConf
from step_watch import Line, Trace, watch

from tinylora_rl.settings.compose import compose, verl_config_dir
from tinylora_rl.settings.experiment import read
from tinylora_rl.training.run import write_rows

HERE = Path(__file__).resolve().parent
PHASES = ("rollout", "log-prob", "update", "sync", "other")
# stages of a start, and the words in the log by which each has ended; verl's are the same for both
VERL_STAGES = {
    "Ray": "Started a local Ray instance",
    "task runner, data": "worker group kwargs",
    "actor": "actor and ref model engine initialized",
    "vLLM": "checkpoint engine manager initialized",
    "agent loops, first sync": "Training Progress:",
}
OUR_STAGES = {"checks": "checked in ", **VERL_STAGES}
TRL_STAGES = {"imports": "imported;", "model, trainer": "trainer built"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """One training: its steps, each {phase: seconds}, and its start, {stage: seconds}."""

    steps: list[dict[str, float]]
    cpu_s: list[dict[str, float]]
    tokens: float
    start: dict[str, float]

    def wall_s(self) -> float:
        return statistics.median(sum(step.values()) for step in self.steps)


def recipe(arguments: argparse.Namespace, folder: Path) -> DictConfig:
    """Returns our recipe, resolved, as `tinylora_rl.train` composes it."""
    config = compose("train", _ours(arguments, folder))
    OmegaConf.resolve(config)
    return config


def _ours(arguments: argparse.Namespace, folder: Path) -> list[str]:
    return [
        "+recipe=arithmetic_cpu",
        "task.recipe=arithmetic_cpu",
        f"run.dir={folder}",
        f"trainer.total_training_steps={arguments.steps}",
        f"trainer.val_before_train={str(arguments.validate).lower()}",
        "trainer.test_freq=-1",
        *arguments.override,
    ]


def _threads(arguments: argparse.Namespace) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(arguments.threads)}


def train_ours(arguments: argparse.Namespace, folder: Path) -> Training:
    trace = watch(
        [sys.executable, "-m", "tinylora_rl.train", *_ours(arguments, folder)],
        metrics=folder / "metrics.jsonl",
        logs=[folder.with_suffix(".out"), folder / "log.txt"],
        marks=OUR_STAGES,
        environment=_threads(arguments),
        limit_s=arguments.limit_s,
    )
    return _of_verl(trace, arguments, OUR_STAGES)


def train_verl(
    arguments: argparse.Namespace, folder: Path, poll_interval_s: float | None = None
) -> Training:
    """Trains with stock verl, configured by a file in place of its command line."""
    config = recipe(arguments, folder)
    write_rows(read(config))
    settings = _without_ours(config, arguments)
    if poll_interval_s is not None:
        sampler = settings.trainer.v1.sampler
        sampler.custom_sampler = {"path": "pkg://step_verl", "name": "EagerReplayBuffer"}
        sampler.sampler_kwargs = {"poll_interval_s": poll_interval_s}
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(settings, folder / "verl.yaml")
    metrics = folder / "verl.jsonl"
    trace = watch(
        [
            *(sys.executable, "-m", "verl.trainer.main_ppo"),
            *("--config-path", str(folder), "--config-name", "verl"),
            f"hydra.run.dir={folder}",
        ],
        metrics=metrics,
        logs=[folder.with_suffix(".out")],
        marks=VERL_STAGES,
        environment={
            "PYTHONPATH": str(HERE),
            "VERL_FILE_LOGGER_PATH": str(metrics),
            **_threads(arguments),
        },
        limit_s=arguments.limit_s,
    )
    return _of_verl(trace, arguments, VERL_STAGES)


def train_verl_polled(arguments: argparse.Namespace, folder: Path) -> Training:
    return train_verl(arguments, folder, recipe(arguments, folder).run.poll_interval_s)


def _without_ours(config: DictConfig, arguments: argparse.Namespace) -> DictConfig:
    """Returns verl's part of our recipe, with verl's classes and LoRA in place of ours."""
    with hydra.initialize_config_dir(str(verl_config_dir()), version_base="1.3"):
        stock = hydra.compose("ppo_trainer")
    theirs = OmegaConf.masked_copy(config, [str(key) for key in stock])
    actor, stock_actor = theirs.actor_rollout_ref, stock.actor_rollout_ref
    actor.model.model_type = "language_model"
    actor.model.external_lib = "step_verl"
    actor.model.lora_rank = arguments.lora_rank
    actor.model.lora_alpha = arguments.lora_rank
    actor.model.target_modules = list(config.adapter.target_modules)
    actor.model.lora = stock_actor.model.lora
    actor.actor.optim.lr = arguments.lora_learning_rate
    actor.actor.checkpoint = stock_actor.actor.checkpoint
    actor.rollout.name = "vllm"
    actor.rollout.load_format = "safetensors"  # verl's LoRA recipe: vLLM reads the base itself
    actor.rollout.agent = stock_actor.rollout.agent
    actor.rollout.agent.num_workers = config.actor_rollout_ref.rollout.agent.num_workers
    theirs.trainer.v1 = stock.trainer.v1
    theirs.trainer.save_freq = -1
    theirs.trainer.logger = ["console", "file"]
    return theirs


def train_trl(arguments: argparse.Namespace, folder: Path) -> Training:
    config = recipe(arguments, folder)
    write_rows(read(config))
    actor = config.actor_rollout_ref
    metrics = folder / "trl.jsonl"
    trace = watch(
        [
            *(arguments.trl_python, str(HERE / "step_trl.py")),
            *("--model", actor.model.path, "--rows", config.data.train_files),
            *("--metrics", str(metrics), "--scratch", str(folder / "trl")),
            *("--steps", str(arguments.steps), "--prompts", str(config.data.train_batch_size)),
            *("--samples", str(actor.rollout.n)),
            *("--response-tokens", str(config.data.max_response_length)),
            *("--learning-rate", str(actor.actor.optim.lr)),
        ],
        metrics=metrics,
        logs=[folder.with_suffix(".out")],
        marks=TRL_STAGES,
        environment={
            "PYTHONPATH": str(HERE.parents[1]),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **_threads(arguments),
        },
        limit_s=arguments.limit_s,
    )
    return Training(
        steps=[
            _phases(
                line.at_s - before.at_s,
                rollout=line.row["timing_s"]["rollout"],
                log_prob=line.row["timing_s"]["log_prob"],
                update=line.row["timing_s"]["update"],
                sync=0.0,
            )
            for before, line in _steady(trace.lines, arguments)
        ],
        cpu_s=[_cpu(before, line) for before, line in _steady(trace.lines, arguments)],
        tokens=statistics.mean(line.row["response_length"] for line in trace.lines),
        start=_start(trace, TRL_STAGES),
    )


def _of_verl(trace: Trace, arguments: argparse.Namespace, stages: dict[str, str]) -> Training:
    """verl's file has {"step", "data"}, ours the same flat; a validation before step 1 has no
    `timing_s/step`."""
    lines = [dataclasses.replace(line, row=line.row.get("data", line.row)) for line in trace.lines]
    lines = [line for line in lines if "timing_s/step" in line.row]
    return Training(
        steps=[
            _verl_phases(line.at_s - before.at_s, line.row)
            for before, line in _steady(lines, arguments)
        ],
        cpu_s=[_cpu(before, line) for before, line in _steady(lines, arguments)],
        tokens=statistics.mean(line.row["response_length/mean"] for line in lines),
        start=_start(dataclasses.replace(trace, lines=lines), stages),
    )


def _verl_phases(wall_s: float, row: dict[str, float]) -> dict[str, float]:
    """verl's `gen` begins when the prompts are handed out; handing out belongs to the rollout."""
    spent = {
        key.removeprefix("timing_s/"): value
        for key, value in row.items()
        if key.startswith("timing_s/")
    }
    step = spent.pop("step")
    spent.pop("testing", None)  # outside of the step
    handing_out = step - sum(spent.values())
    return _phases(
        wall_s,
        rollout=handing_out + spent["gen"],
        log_prob=spent["old_log_prob"],
        update=spent["update_actor"],
        sync=spent["update_weights"],
    )


def _phases(wall_s: float, **spent: float) -> dict[str, float]:
    phases = {key.replace("_", "-"): seconds for key, seconds in spent.items()}
    return {**phases, "other": wall_s - sum(phases.values())}


def _steady(lines: list[Line], arguments: argparse.Namespace) -> Iterator[tuple[Line, Line]]:
    """(line before, line) of every step after the warm-up."""
    return itertools.pairwise(lines[arguments.warm_up - 1 :])


def _cpu(before: Line, line: Line) -> dict[str, float]:
    return {role: spent - before.cpu_s.get(role, 0.0) for role, spent in line.cpu_s.items()}


def _start(trace: Trace, stages: dict[str, str]) -> dict[str, float]:
    """Returns the seconds of each stage, in order, up to the first step's end."""
    ends = [(stage, trace.marks[stage]) for stage in stages] + [("first step", trace.lines[0].at_s)]
    return {
        stage: end - begin
        for (stage, end), begin in zip(ends, [0.0, *(end for _, end in ends)], strict=False)
    }


PEERS = ("verl", "verl-polled", "TRL")
TRAINERS: dict[str, Callable[[argparse.Namespace, Path], Training]] = {
    "ours": train_ours,
    "verl": train_verl,
    "verl-polled": train_verl_polled,
    "TRL": train_trl,
}


# -- tables ---------------------------------------------------------------------------------------


def report(rounds: list[dict[str, Training]]) -> None:
    names = list(rounds[0])
    titles = " | ".join(PHASES)
    print(f"\n| | step, s (range) | x of ours (range) | CPU s | tokens | {titles} |")
    print("|---" * (5 + len(PHASES)) + "|")
    for name in names:
        trainings = [training[name] for training in rounds]
        steps = [sum(step.values()) for training in trainings for step in training.steps]
        ratios = [each[name].wall_s() / each["ours"].wall_s() for each in rounds]
        cpu = [sum(spent.values()) for training in trainings for spent in training.cpu_s]
        phases = " | ".join(
            f"{statistics.median(s[phase] for t in trainings for s in t.steps):.3f}"
            for phase in PHASES
        )
        tokens = statistics.mean(training.tokens for training in trainings)
        print(
            f"| {name} | {_range(steps)} | {_range(ratios)} | {_range(cpu)} "
            f"| {tokens:.1f} | {phases} |"
        )

    print("\n| from the command to the end of step 1 | seconds (range) | of which |")
    print("|---|---|---|")
    for name in names:
        starts = [training[name].start for training in rounds]
        of_which = ", ".join(
            f"{stage} {statistics.median(start[stage] for start in starts):.1f}"
            for stage in starts[0]
        )
        print(f"| {name} | {_range([sum(start.values()) for start in starts])} | {of_which} |")

    print("\n| CPU seconds of a step, by process | |")
    print("|---|---|")
    for name in names:
        spent = [cpu_s for training in rounds for cpu_s in training[name].cpu_s]
        roles = sorted({role for cpu_s in spent for role in cpu_s})
        means = {role: statistics.mean(cpu_s.get(role, 0.0) for cpu_s in spent) for role in roles}
        ranked = sorted(means.items(), key=lambda item: -item[1])
        print(f"| {name} | {', '.join(f'{role} {s:.2f}' for role, s in ranked if s >= 0.01)} |")


def _range(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=10, help="of each training")
    parser.add_argument("--warm-up", type=int, default=2, help="of them left out, at least 1")
    parser.add_argument("--trl-python", help="the Python of an environment with TRL")
    parser.add_argument("--peers", nargs="*", choices=PEERS, help="default: verl, and TRL if given")
    parser.add_argument("--threads", type=int, default=1, help="of a process; Ray's choice is 1")
    parser.add_argument("--lora-rank", type=int, default=32, help="of verl's LoRA, as verl advises")
    parser.add_argument("--lora-learning-rate", type=float, default=1e-4)
    parser.add_argument(
        "--validate", action="store_true", help="ours and verl before step 1, as the recipe does"
    )
    parser.add_argument("--override", nargs="*", default=[], help="of our recipe, for all")
    parser.add_argument("--scratch", type=Path, help="where to keep the trainings; else removed")
    parser.add_argument("--limit-s", type=float, default=420, help="of one training")
    arguments = parser.parse_args()
    if not 1 <= arguments.warm_up < arguments.steps:
        parser.error(f"--warm-up={arguments.warm_up}: give 1 to --steps - 1")
    peers = arguments.peers
    if peers is None:
        peers = ["verl", "TRL"] if arguments.trl_python else ["verl"]
    if "TRL" in peers and not arguments.trl_python:
        parser.error("--peers TRL: give --trl-python too")
    names = ["ours", *peers]

    os.environ["HF_HUB_OFFLINE"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the training is then ended too
    with tempfile.TemporaryDirectory() as temporary:
        scratch = (arguments.scratch or Path(temporary)).resolve()
        scratch.mkdir(parents=True, exist_ok=True)
        rounds: list[dict[str, Training]] = []
        for index in range(arguments.rounds):
            order = names if index % 2 == 0 else names[::-1]
            done = {}
            for name in order:
                print(f"round {index + 1}: {name} ...", file=sys.stderr, flush=True)
                done[name] = TRAINERS[name](arguments, scratch / f"{name}{index}")
                print(json.dumps({name: dataclasses.asdict(done[name])}), file=sys.stderr)
            rounds.append({name: done[name] for name in names})
    report(rounds)


if __name__ == "__main__":
    main()
