"""Trains 13 numbers with TRL's GRPOTrainer: `python recipes/with_trl/train.py [STEPS]`."""

import sys

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.rewards import Gold, judge
from tinylora_rl.tasks import make_task, row_gold
from tinylora_rl.tasks.arithmetic import base_model_dir

model = AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype="float32")
adapter = inject(model, TinyLoraConfig(r=2, u=13, n_tie="all"), register=True)
rows = make_task("arithmetic", {"train_rows": 2048}).rows("train")
prompts = [{"prompt": row["prompt"], "gold": row_gold(row).answer} for row in rows]


def is_right(completion: list[dict[str, str]], gold: str) -> bool:
    return judge("strict", completion[0]["content"], Gold(answer=gold)).verdict == "right"


def reward(completions: list, gold: list[str], **columns: list) -> list[float]:
    return [float(is_right(*pair)) for pair in zip(completions, gold, strict=True)]


settings = GRPOConfig(
    output_dir="runs/with_trl", max_steps=int(sys.argv[1]) if sys.argv[1:] else 25,
    per_device_train_batch_size=128, num_generations=8, max_completion_length=64, top_k=0,
    learning_rate=5e-3, lr_scheduler_type="constant", beta=0.0, loss_type="dapo", bf16=False,
    gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to="none",
)  # fmt: skip
tokenizer = AutoTokenizer.from_pretrained(base_model_dir())
trainer = GRPOTrainer(
    model, reward, settings, Dataset.from_list(prompts), processing_class=tokenizer
)
trainer.train()
print("rewards", [round(log["reward"], 3) for log in trainer.state.log_history if "reward" in log])
print("v", adapter.v.tolist())
