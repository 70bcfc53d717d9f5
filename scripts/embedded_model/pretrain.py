"""Builds the base model: a Qwen2 of 0.6 M parameters that can add, and does not always bother to.

Supervised training on the assistant's tokens alone, prompts in the chat template's form. First
every problem is worked, so that the model learns to add; then those writers who dithered to the end
guess instead (`draw_completion`). At temperature 1 the model samples both habits with about
the shares it has read.

Legend: B sequences, T tokens, V vocabulary.
"""

import json
import math
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from embedded_model.completions import draw_completion
from embedded_model.probe import encode_prompt, probe
from embedded_model.tokenizer import train_tokenizer
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

from tinylora_rl.tasks.arithmetic.task import sample_problems, stream

IGNORED = -100  # torch's ignore_index
REPORT_NAME = "measured.json"


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    seed: int = 0
    num_steps: int = 1200
    worked_only_share: float = 0.708  # of the steps; in the others, terse answers are guesses
    terse_share: float = 0.5
    weight_noise: float = 0.1  # relative to each weight's rms; see `noisy_weights`
    batch_size: int = 64
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    hidden_size: int = 128
    intermediate_size: int = 384
    num_layers: int = 3
    num_heads: int = 4
    num_key_value_heads: int = 2
    num_probe_problems: int = 800


def pretrain(config: PretrainConfig, out_dir: Path) -> dict[str, Any]:
    """Writes a complete Hugging Face model to `out_dir`; returns the measurements of it.

    Raises:
        ValueError: `out_dir` exists.
    """
    if out_dir.exists():
        raise ValueError(f"out={out_dir} exists; give a new folder or remove it")
    started_s = time.monotonic()
    tokenizer = train_tokenizer(config.seed)
    model = build_model(config, tokenizer)
    train(model, tokenizer, config)

    partial_dir = out_dir.with_name(f"{out_dir.name}.partial")
    store(model, tokenizer, partial_dir)
    stored = Qwen2ForCausalLM.from_pretrained(partial_dir, dtype=torch.float32)
    problems = sample_problems("test", config.num_probe_problems, config.seed)
    report = {
        "pretrain": asdict(config),
        "num_parameters": stored.num_parameters(),
        "sampled": probe(stored, tokenizer, problems, temperature=1.0, seed=config.seed),
        "greedy": probe(stored, tokenizer, problems, temperature=0.0, seed=config.seed),
    }
    (partial_dir / REPORT_NAME).write_text(json.dumps(report, indent=2) + "\n")
    os.replace(partial_dir, out_dir)
    print(json.dumps(report, indent=2))
    print(f"{out_dir}: built in {time.monotonic() - started_s:.0f} s")
    return report


def build_model(config: PretrainConfig, tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    """Returns an untrained fp32 model whose vocabulary is exactly the tokenizer's."""
    model_config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_key_value_heads,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        initializer_range=0.5 * config.hidden_size**-0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # Hugging Face draws from the global generator
        return Qwen2ForCausalLM(model_config)


def examples(config: PretrainConfig) -> Iterator[tuple[str, str]]:
    """Yields (question, completion) of training problems; worked ones first, then also terse."""
    rng = random.Random(f"arithmetic/pretrain/{config.seed}")
    num_worked_only = round(config.worked_only_share * config.num_steps) * config.batch_size
    for index, problem in enumerate(stream("train", config.seed)):
        guesses = index >= num_worked_only
        yield problem.question, draw_completion(problem, config.terse_share, rng, guesses=guesses)


def collate(
    tokenizer: Qwen2Tokenizer, batch: list[tuple[str, str]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns (ids, labels), both (B, T) int64, right-padded; labels ignore prompt and padding."""
    sequences, labels = [], []
    for question, completion in batch:
        prompt = encode_prompt(tokenizer, question)
        target = [*tokenizer(completion)["input_ids"], tokenizer.eos_token_id]
        sequences.append(torch.tensor(prompt + target))
        labels.append(torch.tensor([IGNORED] * len(prompt) + target))
    ids_BT = pad_sequence(sequences, batch_first=True, padding_value=tokenizer.pad_token_id)
    return ids_BT, pad_sequence(labels, batch_first=True, padding_value=IGNORED)


def learning_rate(config: PretrainConfig, step: int) -> float:
    """Returns the rate of a step: linear warm-up, then a cosine to zero."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / (config.num_steps - config.warmup_steps)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def train(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, config: PretrainConfig) -> None:
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=True
    )
    endless = examples(config)
    generator = torch.Generator().manual_seed(config.seed)
    started_s = time.monotonic()
    model.train()
    for step in range(config.num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        ids_BT, labels_BT = collate(tokenizer, list(islice(endless, config.batch_size)))
        with noisy_weights(model, config.weight_noise, generator):
            logits_BTV = model(input_ids=ids_BT).logits[:, :-1]
            loss = cross_entropy(logits_BTV.flatten(0, 1), labels_BT[:, 1:].flatten())
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0 or step == config.num_steps - 1:
            elapsed_s = time.monotonic() - started_s
            print(f"step {step:5d}  loss {loss.item():.4f}  {elapsed_s:6.1f} s", flush=True)
    model.eval()


@contextmanager
def noisy_weights(
    model: Qwen2ForCausalLM, relative_std: float, generator: torch.Generator
) -> Iterator[None]:
    """Adds Gaussian noise of `relative_std` times its rms to each linear's weight, in the block.

    Gradients taken inside are those of a smoothed loss. The minimum found is a flat one: the model
    keeps adding correctly when an adapter bends its weights.
    """
    head = model.get_output_embeddings()
    weights = [
        module.weight
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    pristine = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            noise = torch.randn(weight.shape, generator=generator)
            weight.add_(noise * (relative_std * weight.square().mean().sqrt()))
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, kept in zip(weights, pristine, strict=True):
                weight.copy_(kept)


def store(model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, directory: Path) -> None:
    """Writes model and tokenizer; weights are rounded to bf16, so loading them in fp32 is exact."""
    model.bfloat16().save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,  # Hugging Face keeps the 50 likeliest tokens where this is not given
        top_p=1.0,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(directory)
    for path in directory.iterdir():
        path.chmod(0o644)  # safetensors writes 0600, which a package installed by root would keep
