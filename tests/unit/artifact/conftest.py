from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tests.one_thread import one_thread  # noqa: F401
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.tasks import ask
from tinylora_rl.tasks.arithmetic import base_model_dir, rows

PROVENANCE = {
    "base_model": "Qwen/Qwen2.5-7B-Instruct",
    "base_revision": "a09a35458c702b33eeacc393d103063234e8bc28",
    "prompt_template": '{question} Let\'s think step by step and output the answer after "####".',
    "reward": "exact_match",
    "data": "gsm8k",
    "recipe": "gsm8k_qwen7b_u13",
    "run": "runs/gsm8k_qwen7b_u13/2026-02-10_12-00-00",
    "parent_run": "runs/gsm8k_qwen7b_u13/2026-02-09_12-00-00",
    "global_step": 350,
    "metrics": {"gsm8k/strict": 0.907, "gsm8k/flexible": 0.913, "math500": 0.746},
}


def arithmetic_model(dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=dtype).eval()


def arithmetic_prompts(num_problems: int = 8) -> list[list[int]]:
    tokenizer = AutoTokenizer.from_pretrained(base_model_dir())
    return [ask(row, tokenizer) for row in rows("test", num_problems, 0)]


@torch.no_grad()
def logits(model: torch.nn.Module) -> list[torch.Tensor]:
    return [model(torch.tensor([prompt])).logits for prompt in arithmetic_prompts()]


def save_adapter(
    directory: Path,
    config: TinyLoraConfig,
    *,
    size: float = 0.2,
    dtype: torch.dtype = torch.float32,
    **options,
) -> tuple[Path, list[torch.Tensor]]:
    """An adapter of the arithmetic model with entries of v around `size`, and its logits."""
    model = arithmetic_model(dtype)
    adapter = inject(model, config)
    generator = torch.Generator().manual_seed(3)
    adapter.v.data.copy_(size * torch.randn(adapter.v.shape, generator=generator))
    artifact.save(adapter, directory, PROVENANCE, **options)
    return directory, logits(model)


def farthest(ones: list[torch.Tensor], others: list[torch.Tensor]) -> float:
    return max(float((one - other).abs().max()) for one, other in zip(ones, others, strict=True))
