"""A checked configuration, evaluated to its end: benchmarks in, tables and graded responses out."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf

from tinylora_rl import __version__, arithmetic, artifact
from tinylora_rl.atomic import write_json, write_text
from tinylora_rl.data import DataError, Row, benchmarks, template_named
from tinylora_rl.errors import ConfigError
from tinylora_rl.evaluation.items import ItemsFile, read_items
from tinylora_rl.evaluation.plan import (
    BASE,
    WEIGHTS,
    Plan,
    Policy,
    Question,
    Sampling,
    first_difference,
)
from tinylora_rl.evaluation.scores import score
from tinylora_rl.evaluation.tables import console_lines, to_json, to_markdown
from tinylora_rl.launch.base_model import local_base_model
from tinylora_rl.rewards import GradingPool
from tinylora_rl.rewards.judges import JUDGES
from tinylora_rl.runs.console import exit_noise_to, library_noise_to
from tinylora_rl.runs.directory import exclusive
from tinylora_rl.runs.samples_page import write_samples_page

EMBEDDED = "arithmetic"
"""The embedded task's held-out rows, beside the benchmarks of `data`."""


def evaluate(config: DictConfig) -> int:
    """Checks, generates what is missing, grades, and writes the tables.

    Returns:
        The exit code 0.

    Raises:
        ConfigError, MachineError: before anything expensive was started.
        KeyboardInterrupt: on SIGTERM and SIGINT; what was graded until then is kept.
    """
    start_s = time.monotonic()
    os.environ.update({key: str(value) for key, value in config.engine.env.items()})
    run_dir = Path(config.run.dir).expanduser().resolve()
    sampling = _sampling(config)
    policies = _policies(config)
    rows = {name: _rows(config, name) for name in _benchmark_names(config)}
    model, tokenizer = local_base_model(config.base_model.path)
    questions = _questions(rows, tokenizer, _context(config, model), sampling.max_response_tokens)
    plan = _plan(config, model, policies, rows, sampling)
    with exclusive(run_dir):
        _continue_or_start(run_dir / "plan.json", plan)
        write_text(run_dir / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
        print(f"run directory     {run_dir}", flush=True)
        exit_noise_to(run_dir / "log.txt")
        with library_noise_to(run_dir / "log.txt") as console:
            for line in _opening(plan, questions):
                print(line, file=console)
            _generate_and_grade(config, plan, questions, model, tokenizer, run_dir, console)
            _write_results(config, plan, run_dir, console)
            print(f"done in {time.monotonic() - start_s:.0f} s", file=console)
    return 0


def _generate_and_grade(
    config: DictConfig,
    plan: Plan,
    questions: list[Question],
    model: Path,
    tokenizer: Any,
    run_dir: Path,
    console: TextIO,
) -> None:
    from tqdm import tqdm

    from tinylora_rl.evaluation.engine import Engine
    from tinylora_rl.evaluation.runner import run_plan

    def start_engine() -> Engine:
        return Engine(
            str(model),
            options=_engine_options(config, questions, plan.sampling),
            lora_dirs=_lora_dirs(plan, model, run_dir),
            rank=_largest_rank(plan),
            rounding=config.evaluate.rounding,
        )

    total = len(plan.policies) * len(questions) * (plan.sampling.greedy + plan.sampling.num_samples)
    grading = config.grading
    with (
        ItemsFile(run_dir / "items.jsonl") as items,
        GradingPool(
            num_workers=grading.num_workers,
            deadline_s=grading.deadline_s,
            memory_limit_bytes=grading.memory_limit_mb << 20,
        ) as pool,
        tqdm(
            total=total,
            file=console,
            unit=" responses",
            smoothing=0.1,
            mininterval=1.0 if console.isatty() else 30.0,
        ) as bar,
    ):
        run_plan(
            plan,
            questions,
            items,
            start_engine=start_engine,
            tokenizer=tokenizer,
            pool=pool,
            num_graders=grading.num_workers,
            progress=bar.update,
        )


def _write_results(config: DictConfig, plan: Plan, run_dir: Path, console: TextIO) -> None:
    confidence = config.evaluate.confidence
    scores = score(read_items(run_dir / "items.jsonl"), plan, confidence)
    write_json(run_dir / "results.json", to_json(scores, plan, confidence))
    write_text(run_dir / "results.md", to_markdown(scores, plan, confidence))
    write_samples_page(
        read_items(run_dir / "items.jsonl"), run_dir / "samples.html", title=run_dir.name
    )
    for line in ["", *console_lines(scores, plan), ""]:
        print(line, file=console)
    for label, name in (
        ("tables", "results.md"),
        ("figures", "results.json"),
        ("responses", "items.jsonl"),
        ("page", "samples.html"),
    ):
        print(f"{label:<18}{run_dir / name}", file=console)


# -- from configuration to plan --------------------------------------------------------------------


def _sampling(config: DictConfig) -> Sampling:
    chosen = config.evaluate
    try:
        return Sampling(
            greedy=chosen.greedy,
            num_samples=chosen.samples,
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            max_response_tokens=chosen.max_response_tokens,
            seed=chosen.seed,
        )
    except ValueError as error:
        message = str(error).replace("num_samples", "samples", 1)
        raise ConfigError(f"evaluate.{message}") from error


def _policies(config: DictConfig) -> tuple[Policy, ...]:
    """The base, then every adapter under a name of its own."""
    given: Any = OmegaConf.to_container(config.adapters, resolve=True)
    named = given.items() if isinstance(given, dict) else ((None, entry) for entry in given)
    policies = [Policy(name=BASE)]
    for name, entry in named:
        directory = Path(entry).expanduser().resolve()
        if not (directory / artifact.MANIFEST).is_file() and (directory / "adapter").is_dir():
            directory = directory / "adapter"  # a run directory
        try:
            manifest = artifact.read_manifest(directory)
        except ValueError as error:
            raise ConfigError(f"adapters: {error}") from error
        default = directory.parent.name if directory.name == "adapter" else directory.name
        policies.append(
            Policy(name=str(name or default), directory=directory, digest=manifest["digest"])
        )
    names = [policy.name for policy in policies]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(
                f"adapters: two policies would be called {name!r}; name them: "
                "'adapters={first: DIR, second: DIR}'"
            )
    return tuple(policies)


def _benchmark_names(config: DictConfig) -> list[str]:
    names = list(config.benchmarks)
    known = [*benchmarks.BENCHMARKS, EMBEDDED]
    for name in names:
        if name not in known:
            raise ConfigError(f"benchmarks={name}: choose from {', '.join(known)}")
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"benchmarks={names}: name one or more, each once")
    return names


def _template(config: DictConfig, benchmark: str) -> str:
    return config.data.template or ("gsm8k_hash" if benchmark == "gsm8k" else "boxed")


def _rows(config: DictConfig, benchmark: str) -> list[Row]:
    data = config.data
    try:
        if benchmark == EMBEDDED:
            return arithmetic.rows("test", data.rows or 256, seed=arithmetic.HELD_OUT_SEED)
        return benchmarks.rows(
            benchmark,
            data.path,
            _template(config, benchmark),
            limit=data.rows,
            check=data.check,
        )
    except (DataError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _context(config: DictConfig, model: Path) -> int:
    """Tokens of prompt and response that the model takes."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(model).max_position_embeddings)


def _questions(
    rows: dict[str, list[Row]], tokenizer: Any, context: int, max_response_tokens: int
) -> list[Question]:
    limit = context - max_response_tokens
    if limit < 1:
        raise ConfigError(
            f"evaluate.max_response_tokens={max_response_tokens}: the model's context is {context} "
            "tokens; leave room for the prompt"
        )
    questions = []
    for benchmark, benchmark_rows in rows.items():
        for row in benchmark_rows:
            token_ids = tokenizer.apply_chat_template(
                row["prompt"], add_generation_prompt=True, return_dict=False
            )
            info = row["extra_info"]
            questions.append(
                Question(
                    benchmark=benchmark,
                    index=info["index"],
                    text=row["prompt"][-1]["content"],
                    gold=row["reward_model"]["ground_truth"],
                    tolerance=info.get("tolerance"),
                    unordered=info.get("unordered", False),
                    prompt_token_ids=tuple(token_ids) if len(token_ids) <= limit else None,
                )
            )
    return questions


def _plan(
    config: DictConfig,
    model: Path,
    policies: tuple[Policy, ...],
    rows: dict[str, list[Row]],
    sampling: Sampling,
) -> Plan:
    chosen = config.evaluate
    judges = tuple(chosen.judges)
    for name in (*judges, *([chosen.judge] if chosen.judge else [])):
        if name not in JUDGES:
            raise ConfigError(f"evaluate.judges={name}: choose from {', '.join(JUDGES)}")
    if chosen.weights not in WEIGHTS:
        raise ConfigError(f"evaluate.weights={chosen.weights}: choose from {', '.join(WEIGHTS)}")
    if chosen.rounding not in ("nearest", "stochastic"):
        raise ConfigError(f"evaluate.rounding={chosen.rounding}: choose from nearest, stochastic")
    if not 0 < chosen.confidence < 1:
        raise ConfigError(f"evaluate.confidence={chosen.confidence}: use a number in (0, 1)")
    headline = {name: _headline(config, name, judges) for name in rows}
    return Plan(
        model=str(config.base_model.path),
        policies=policies,
        benchmarks={name: _digest(benchmark_rows) for name, benchmark_rows in rows.items()},
        sampling=sampling,
        judges=tuple(dict.fromkeys((*judges, *headline.values()))),
        headline=headline,
        weights=chosen.weights,
        settings={
            "templates": {name: _template(config, name) for name in rows if name != EMBEDDED},
            "rounding": chosen.rounding if chosen.weights == "merged" else None,
            "dtype": config.engine.options.dtype,
            "grading": {
                "deadline_s": config.grading.deadline_s,
                "memory_limit_mb": config.grading.memory_limit_mb,
            },
            "versions": {
                "tinylora_rl": __version__,
                **{name: _version(name) for name in ("vllm", "torch", "transformers")},
            },
        },
    )


def _headline(config: DictConfig, benchmark: str, judges: tuple[str, ...]) -> str:
    if config.evaluate.judge:
        return config.evaluate.judge
    if benchmark == EMBEDDED:
        return "strict"
    judge = template_named(_template(config, benchmark)).judge
    return f"{judge}_symbolic" if f"{judge}_symbolic" in judges else judge


def _digest(rows: list[Row]) -> str:
    """sha256 over all that is asked and all that counts as right."""
    asked = [
        [row["prompt"], row["reward_model"]["ground_truth"], row["extra_info"].get("tolerance")]
        for row in rows
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _version(distribution: str) -> str:
    for name in (distribution, f"{distribution}-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


def _continue_or_start(path: Path, plan: Plan) -> None:
    here = json.loads(json.dumps(plan.to_dict()))
    if path.exists():
        difference = first_difference(here, json.loads(path.read_text(encoding="utf-8")))
        if difference is not None:
            raise ConfigError(
                f"run.dir={path.parent}: holds another evaluation ({difference}); repeat its "
                "settings to continue it, or give another run.dir"
            )
    write_json(path, here)


# -- the engine ------------------------------------------------------------------------------------


def _engine_options(
    config: DictConfig, questions: list[Question], sampling: Sampling
) -> dict[str, Any]:
    options: Any = OmegaConf.to_container(config.engine.options, resolve=True)
    longest = max((len(q.prompt_token_ids) for q in questions if q.prompt_token_ids), default=1)
    return {
        "max_model_len": longest + sampling.max_response_tokens,
        "seed": sampling.seed,
        "trust_remote_code": False,
        **options,
    }


def _lora_dirs(plan: Plan, model: Path, run_dir: Path) -> dict[str, Path] | None:
    if plan.weights == "merged":
        return None
    directories = {}
    for policy in plan.policies:
        if policy.directory is not None:
            out = run_dir / "lora" / policy.name
            if not out.is_dir():  # complete, or absent
                artifact.export_peft_lora(policy.directory, out, model=model)
            directories[policy.name] = out
    return directories


def _largest_rank(plan: Plan) -> int:
    return max(
        (
            artifact.read_manifest(policy.directory)["config"]["r"]
            for policy in plan.policies
            if policy.directory is not None
        ),
        default=1,
    )


def _opening(plan: Plan, questions: list[Question]) -> Iterator[str]:
    sampling = plan.sampling
    overlong = sum(question.prompt_token_ids is None for question in questions)
    decoding = ["greedy"] if sampling.greedy else []
    if sampling.num_samples:
        decoding.append(
            f"{sampling.num_samples} samples at temperature {sampling.temperature:g}, "
            f"top_p {sampling.top_p:g}, seed {sampling.seed}"
        )
    yield f"model             {plan.model}"
    yield f"policies          {', '.join(policy.name for policy in plan.policies)}"
    yield f"benchmarks        {', '.join(plan.benchmarks)}: {len(questions)} questions" + (
        f", {overlong} too long for the model's context, counted as unanswered" if overlong else ""
    )
    yield f"decoding          {' and '.join(decoding)}, <= {sampling.max_response_tokens} tokens"
    yield f"weights           {plan.weights}, {plan.settings['dtype']}"
    yield "judges            " + ", ".join(plan.judges)
