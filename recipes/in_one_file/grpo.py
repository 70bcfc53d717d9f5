"""Trains 13 numbers with GRPO on one page: `python recipes/in_one_file/grpo.py`.

A small model answers chains of sums. It can work them out, but often guesses. A TinyLoRA adapter
adds dW = U S (sum_i v_i P_i) Vt to every linear; U, S, Vt and P are frozen. The 13 numbers v are
shared by all modules and are all that is trained. One step: 16 questions, 8 samples each, a judge's
0 or 1, advantages within each group of 8, one Adam step of v. `reward.png` is redrawn as it goes.

This is the algorithm of `python -m tinylora_rl.train +recipe=arithmetic_cpu`, with the formulas of
verl 0.9.1; tests/unit/recipes/test_in_one_file.py feeds both the same samples. It owns up to what
it leaves out:

1. A second engine. The trained model is its own sampler, so the importance weights are 1 up to
   rounding and correct nothing. With vLLM they correct for merged, rounded weights, and each new v
   must reach every worker and be verified there; half of the package is about that.
2. PPO's clip. One update per batch makes every ratio exactly 1, where no clip acts. `policy_loss`
   keeps the ratio because its gradient is the policy gradient.
3. Scale. One process, fp32, one forward pass for all 128 samples: no FSDP, no micro-batches, no
   gradient checkpointing.
4. The same random numbers. verl shuffles the rows, and the real path gives each sample its own
   seed. The two curves have the same shape, not the same points.
5. Care. No checkpoint, no resume, no held-out questions, no guard against NaN, no time limit for a
   judge (the strict one compares strings and cannot hang).
A KL penalty and an entropy bonus are absent because the recipe has neither.

Legend: B samples, G groups of K samples, T tokens of prompt and response, R response tokens, V
vocabulary.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import torch
from matplotlib import pyplot
from transformers import AutoModelForCausalLM, AutoTokenizer

from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.rewards import judge
from tinylora_rl.tasks import Row, ask, make_task, row_gold
from tinylora_rl.tasks.arithmetic import base_model_dir

PROMPTS, SAMPLES, RESPONSE_TOKENS = 16, 8, 64
LEARNING_RATE, MAX_GRAD_NORM, WEIGHT_CAP = 5e-3, 1.0, 2.0


def sample(
    model: Any, tokenizer: Any, questions: list[Row], num_samples: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draws responses at temperature 1 and keeps the log-prob of each token as it was drawn.

    Returns:
        ids and attention mask, both (B, T), prompts padded on the left and responses on the right;
        the sampler's log-probs (B, R), 0 where padded.
    """
    prompt_ids = [ask(row, tokenizer) for row in questions for _ in range(num_samples)]
    prompts = tokenizer.pad({"input_ids": prompt_ids}, padding_side="left", return_tensors="pt")
    output = model.generate(
        **prompts,
        do_sample=True,
        max_new_tokens=RESPONSE_TOKENS,
        output_logits=True,
        return_dict_in_generate=True,
    )
    num_prompt = prompts["input_ids"].shape[1]
    responses_BR = output.sequences[:, num_prompt:]
    is_end_BR = (responses_BR == tokenizer.eos_token_id).long()
    mask_BR = (is_end_BR.cumsum(1) - is_end_BR == 0).long()  # up to the end-of-turn token, with it
    logits_BRV = torch.stack(output.logits, dim=1).float()
    sampled_BR = logits_BRV.log_softmax(-1).gather(-1, responses_BR[..., None])[..., 0]
    attention_BT = torch.cat([prompts["attention_mask"], mask_BR], dim=1)
    return output.sequences, attention_BT, sampled_BR * mask_BR


def log_probs(
    model: Any, ids_BT: torch.Tensor, attention_BT: torch.Tensor, num_response: int
) -> torch.Tensor:
    """Computes log p of each response token under the current v: (B, R), differentiable in v."""
    logits_BRV = model(
        input_ids=ids_BT,
        attention_mask=attention_BT,
        position_ids=(attention_BT.cumsum(1) - 1).clamp_min(0),
        logits_to_keep=num_response + 1,  # token t is predicted at t - 1
    ).logits[:, :-1]
    responses_BR = ids_BT[:, -num_response:]
    return logits_BRV.float().log_softmax(-1).gather(-1, responses_BR[..., None])[..., 0]


def advantages(rewards_B: torch.Tensor, num_samples: int) -> torch.Tensor:
    """Compares each reward with its group's: (B,). verl's compute_grpo_outcome_advantage.

    A group whose samples are all right or all wrong has advantage 0 and teaches nothing.
    """
    rewards_GK = rewards_B.view(-1, num_samples)
    spread_G1 = rewards_GK.std(dim=1, keepdim=True)  # with Bessel's correction, as verl
    return ((rewards_GK - rewards_GK.mean(dim=1, keepdim=True)) / (spread_G1 + 1e-6)).flatten()


def importance_weights(
    log_probs_BR: torch.Tensor, sampled_BR: torch.Tensor, mask_BR: torch.Tensor
) -> torch.Tensor:
    """Corrects each token for having been drawn by another policy: (B, R), truncated at 2.

    verl's rollout_correction with rollout_is=token and rollout_is_threshold=2.
    """
    ratio_BR = (log_probs_BR.detach() - sampled_BR).clamp(-20, 20).exp()
    return (ratio_BR * mask_BR).clamp(max=WEIGHT_CAP)


def policy_loss(
    log_probs_BR: torch.Tensor,
    advantages_B: torch.Tensor,
    weights_BR: torch.Tensor,
    mask_BR: torch.Tensor,
) -> torch.Tensor:
    """Averages -weight * ratio * advantage over all response tokens of the batch (token-mean)."""
    ratio_BR = (log_probs_BR - log_probs_BR.detach()).exp()  # 1, with the gradient of the log-prob
    loss_BR = -weights_BR * ratio_BR * advantages_B[:, None]
    return (loss_BR * mask_BR).sum() / mask_BR.sum()


def update(v: torch.nn.Parameter, optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> float:
    """Moves v by one step and returns the norm of its gradient before clipping."""
    optimizer.zero_grad()
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_([v], MAX_GRAD_NORM)
    optimizer.step()
    return float(norm)


def grade(
    tokenizer: Any, questions: list[Row], responses_BR: torch.Tensor, mask_BR: torch.Tensor
) -> torch.Tensor:
    """Pays 1 for a right answer after `####`, else 0: (B,)."""
    num_samples = len(responses_BR) // len(questions)
    rewards = []
    for index, (ids_R, mask_R) in enumerate(zip(responses_BR, mask_BR.bool(), strict=True)):
        text = tokenizer.decode(ids_R[mask_R], skip_special_tokens=True)
        verdict = judge("strict", text, row_gold(questions[index // num_samples])).verdict
        rewards.append(float(verdict == "right"))
    return torch.tensor(rewards)


def draw(rewards: list[float], path: Path) -> None:
    """Draws the mean reward of each step so far."""
    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    axes.plot(range(1, len(rewards) + 1), rewards, marker=".")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="step", ylabel="mean reward", ylim=(0, 1), title="13 trained numbers")
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def train(num_steps: int, plot: Path, seed: int = 0) -> list[float]:
    """Trains v and returns the mean reward of each step."""
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(base_model_dir())
    model = AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=torch.float32).eval()
    adapter = inject(model, TinyLoraConfig(r=2, u=13, n_tie="all"))
    optimizer = torch.optim.Adam([adapter.v], lr=LEARNING_RATE)
    rows = make_task("arithmetic", {"train_rows": num_steps * PROMPTS}).rows("train")
    rewards = []
    for step in range(num_steps):
        start_s = time.perf_counter()
        questions = rows[step * PROMPTS : (step + 1) * PROMPTS]
        ids_BT, attention_BT, sampled_BR = sample(model, tokenizer, questions, SAMPLES)
        num_response = sampled_BR.shape[1]
        mask_BR = attention_BT[:, -num_response:]
        rewards_B = grade(tokenizer, questions, ids_BT[:, -num_response:], mask_BR)
        log_probs_BR = log_probs(model, ids_BT, attention_BT, num_response)
        weights_BR = importance_weights(log_probs_BR, sampled_BR, mask_BR)
        loss = policy_loss(log_probs_BR, advantages(rewards_B, SAMPLES), weights_BR, mask_BR)
        grad_norm = update(adapter.v, optimizer, loss)
        rewards.append(float(rewards_B.mean()))
        draw(rewards, plot)
        print(
            f"step {step + 1:3d}  reward {rewards[-1]:.3f}  |v| {adapter.v.detach().norm():.4f}  "
            f"grad norm {grad_norm:.3f}  weights up to {weights_BR.max():.4f}  "
            f"{mask_BR.sum() / len(mask_BR):.1f} tokens  {time.perf_counter() - start_s:.1f} s",
            flush=True,
        )
    return rewards


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--plot", type=Path, default=Path("reward.png"))
    arguments = parser.parse_args()
    train(arguments.steps, arguments.plot)
