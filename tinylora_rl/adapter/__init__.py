"""TinyLoRA: W' = W + dW(v), dW = U S (sum_i v_i P_i) Vt, with W, U, S, Vt and P frozen.

Train 13 numbers of a model with any optimiser over its parameters:

    import torch
    from transformers import AutoModelForCausalLM
    from tinylora_rl.adapter import TinyLoraConfig, inject
    from tinylora_rl.tasks.arithmetic import base_model_dir

    model = AutoModelForCausalLM.from_pretrained(base_model_dir())
    adapter = inject(model, TinyLoraConfig(r=2, u=13, n_tie="all"), register=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    tokens = torch.tensor([[1, 2, 3, 4]])
    model(tokens, labels=tokens).loss.backward()
    optimizer.step()
    print(adapter.v)
    with adapter.disabled():
        base_logits = model(tokens).logits

Merge a v into a checkpoint, one weight at a time and without a model:

    from tinylora_rl.adapter import CheckpointWeights, Update, load_or_build, targets_of

    base = CheckpointWeights(base_model_dir())
    config = TinyLoraConfig(r=2, u=13, n_tie="all")
    targets = targets_of(base.names(), config)
    update = Update(base, targets, config, load_or_build(base, targets, config))
    update.v.copy_(adapter.v.detach())
    merged = dict(update.merge((name, base.tensor(name)) for name in base.names()))

Glossary:

- v: the trained numbers, (G, u); a group is a set of modules that share one row of it.
- target: an adapted linear.
- bank: the frozen factors U S, Vt and P of every adapted module.
- update: dW(v) of all targets.
- identity: digests of the base weights and P, without which v means nothing.
"""

from tinylora_rl.adapter.bank import Bank, Identity, build_bank, empty_bank
from tinylora_rl.adapter.bank_cache import load_or_build
from tinylora_rl.adapter.budget import AdapterPlan, plan_budget
from tinylora_rl.adapter.config import TinyLoraConfig
from tinylora_rl.adapter.inject import Adapter, inject
from tinylora_rl.adapter.merge import Survival
from tinylora_rl.adapter.targets import Target, find_targets, targets_of
from tinylora_rl.adapter.update import Update
from tinylora_rl.adapter.weights import (
    CheckpointWeights,
    ModelWeights,
    Weights,
    as_weights,
    in_dtype,
)

__all__ = [
    "Adapter",
    "AdapterPlan",
    "Bank",
    "CheckpointWeights",
    "Identity",
    "ModelWeights",
    "Survival",
    "Target",
    "TinyLoraConfig",
    "Update",
    "Weights",
    "as_weights",
    "build_bank",
    "empty_bank",
    "find_targets",
    "in_dtype",
    "inject",
    "load_or_build",
    "plan_budget",
    "targets_of",
]
