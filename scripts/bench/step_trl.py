"""Trains TRL's side of step.py, run by a Python that has TRL, on our rows, reward and model.

One JSON object a step on the file given: {"step", "timing_s": {...}, "response_length", "reward"}.
Generation is `model.generate`: TRL's vLLM modes need a GPU or a server, and its continuous batching
took eight times as long on this task.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from peft import TinyLoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from tinylora_rl.rewards import compute_score

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class TimedTrainer(GRPOTrainer):
    """TRL's trainer with a clock around all it does between two steps."""

    def clear_clock(self) -> None:
        self.timing_s = {"rollout": 0.0, "log_prob": 0.0, "update": 0.0}
        self._scored_s = time.perf_counter()

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        start_s = time.perf_counter()
        self._in_rollout = True
        scored = super()._generate_and_score_completions(inputs)
        self._in_rollout = False
        self._scored_s = time.perf_counter()
        self.timing_s["rollout"] += self._scored_s - start_s - self.timing_s["log_prob"]
        return scored

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        start_s = time.perf_counter()
        found = super()._get_per_token_logps_and_entropies(*args, **kwargs)
        if self._in_rollout:  # else it is the update's forward pass
            self.timing_s["log_prob"] += time.perf_counter() - start_s
        return found


class StepLines(TrainerCallback):
    """A line per step, written when its update is done."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.trainer: TimedTrainer | None = None

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        assert self.trainer is not None
        self.trainer.clear_clock()

    def on_step_end(self, args: Any, state: Any, *rest: Any, **kwargs: Any) -> None:
        trainer = self.trainer
        assert trainer is not None
        trainer.timing_s["update"] = time.perf_counter() - trainer._scored_s
        means = {
            key: trainer._metrics["train"][name][-1]
            for key, name in (("response_length", "completions/mean_length"), ("reward", "reward"))
        }
        with self._path.open("a") as file:
            file.write(
                json.dumps({"step": state.global_step, "timing_s": trainer.timing_s, **means})
                + "\n"
            )


def reward(completions: list[Any], **columns: list[Any]) -> list[float]:
    """1.0 where the strict judge finds the answer right, as in our recipe."""
    rows = zip(
        completions,
        columns["data_source"],
        columns["reward_model"],
        columns["extra_info"],
        strict=True,
    )
    return [
        compute_score(source, completion[0]["content"], gold["ground_truth"], info)["score"]
        for completion, source, gold, info in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True, help="the parquet file of our run")
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--scratch", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--prompts", type=int, required=True)
    parser.add_argument("--samples", type=int, required=True)
    parser.add_argument("--response-tokens", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    arguments = parser.parse_args()
    print(f"imported; torch threads: {torch.get_num_threads()}", flush=True)

    batch = arguments.prompts * arguments.samples
    config = GRPOConfig(
        output_dir=arguments.scratch,
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=batch,  # one micro-batch, as verl packs these into one
        gradient_accumulation_steps=1,
        num_generations=arguments.samples,
        max_completion_length=arguments.response_tokens,
        max_steps=arguments.steps,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        beta=0.0,
        num_iterations=1,
        epsilon=0.2,
        loss_type="dapo",  # the mean over all tokens, verl's
        scale_rewards="group",
        optim="adamw_torch",
        weight_decay=0.0,
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        gradient_checkpointing=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        save_strategy="no",
        seed=42,
    )
    lines = StepLines(arguments.metrics)
    trainer = TimedTrainer(
        model=AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(arguments.model),
        reward_funcs=reward,
        args=config,
        train_dataset=load_dataset("parquet", data_files=arguments.rows, split="train"),
        peft_config=TinyLoraConfig(r=2, u=13, weight_tying=1.0, target_modules=TARGETS),
        callbacks=[lines],
    )
    trainer._in_rollout = False
    lines.trainer = trainer
    print("trainer built", flush=True)
    trainer.train()


if __name__ == "__main__":
    main()
