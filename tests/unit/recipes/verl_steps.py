"""Takes updates on given samples as verl 0.9.1 does, with our engine, in one process without Ray.

`python -m tests.unit.recipes.verl_steps SPEC.json`, where SPEC is as of verl_plugin.engine_rank.

The calls are those of PPOTrainer._step_once, in its order: compute_old_log_prob, compute_advantage
(which first corrects for the rollout), update_actor. Samples come as padded tensors in a file. A
row of padding is added, as verl adds one to a batch that its ranks cannot share evenly.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from tensordict import TensorDict

from tests.unit.verl_plugin.engine_rank import build_engine

PADDING_TOKENS = 128  # verl.trainer.ppo.padding_utils.SYNTHETIC_PADDING_SEQ_LEN
MAX_TOKENS = 256  # a micro-batch


def nested(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)


def batch_of(samples: dict[str, torch.Tensor], pad_token_id: int) -> TensorDict:
    """The samples and one row of padding, as verl's TransferQueue gives them."""
    num_response = samples["mask"].shape[1]
    prompts, responses, masks, sampled, scores = [], [], [], [], []
    for row in range(len(samples["ids"])):
        mask = samples["mask"][row].bool()
        is_prompt = samples["attention"][row, :-num_response].bool()
        prompts.append(samples["ids"][row, :-num_response][is_prompt])
        responses.append(samples["ids"][row, -num_response:][mask])
        masks.append(torch.ones_like(responses[-1]))
        sampled.append(samples["sampled"][row][mask])
        score = torch.zeros(len(responses[-1]))
        score[-1] = samples["rewards"][row]  # on the last token, as verl's reward loop has it
        scores.append(score)
    prompts.append(torch.full((PADDING_TOKENS - 1,), pad_token_id))
    responses.append(torch.full((1,), pad_token_id))
    masks.append(torch.zeros(1, dtype=torch.long))
    sampled.append(torch.zeros(1))
    scores.append(torch.zeros(1))
    whole = [torch.cat(pair) for pair in zip(prompts, responses, strict=True)]
    return TensorDict(
        {
            "prompts": nested(prompts),
            "responses": nested(responses),
            "input_ids": nested(whole),
            "position_ids": nested([torch.arange(len(row)) for row in whole]),
            "response_mask": nested(masks),
            "loss_mask": nested([mask.clone() for mask in masks]),
            "rollout_log_probs": nested(sampled),
            "rm_scores": nested(scores),
        },
        batch_size=len(whole),
    )


def step(
    engine, samples: dict[str, torch.Tensor], spec: dict, actor_config
) -> dict[str, torch.Tensor]:
    from verl import DataProto
    from verl.trainer.config.algorithm import RolloutCorrectionConfig
    from verl.trainer.ppo.rollout_corr_helper import compute_rollout_correction_and_add_to_batch
    from verl.trainer.ppo.v1.utils import compute_advantage_for_multi_trajectories
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.losses import ppo_loss
    from verl.workers.utils.padding import response_from_nested, response_to_nested

    batch = batch_of(samples, spec["pad_token_id"])
    num_rows = len(batch) - 1
    keys = [f"{row // spec['samples']}_{row % spec['samples']}_0" for row in range(num_rows)]
    keys.append("padding_0_0")
    tu.assign_non_tensor(
        batch,
        use_remove_padding=False,
        use_dynamic_bsz=True,
        max_token_len_per_gpu=MAX_TOKENS,
        temperature=1.0,
        pad_token_id=spec["pad_token_id"],
        use_fused_kernels=False,
        global_batch_size=len(batch),
    )
    # TrainingWorker.infer_batch and PPOTrainer._compute_old_log_prob
    with engine.eval_mode():
        output = engine.infer_batch(batch.clone(), None)["model_output"]
    response_mask = batch["response_mask"]
    batch["old_log_probs"] = response_from_nested(output["log_probs"], response_mask)
    # PPOTrainer._compute_advantage
    fields = ["response_mask", "rm_scores", "rollout_log_probs", "old_log_probs"]
    data = DataProto(batch=batch.select(*fields).to_padded_tensor())
    data.batch["token_level_rewards"] = data.batch["rm_scores"]
    data.non_tensor_batch["uid"] = np.array([key.split("_")[0] for key in keys], dtype=object)
    correction = RolloutCorrectionConfig(rollout_is="token", rollout_is_threshold=2.0)
    data, _ = compute_rollout_correction_and_add_to_batch(data, correction)
    data = compute_advantage_for_multi_trajectories(data, keys, adv_estimator="grpo")
    for field in ("advantages", "rollout_is_weights"):
        batch[field] = response_to_nested(data.batch[field], response_mask)
    # TrainingWorker.train_batch
    with engine.train_mode():
        engine.train_batch(batch, partial(ppo_loss, config=actor_config))
        gradient = engine.adapter.v.grad.clone()  # clipped
    engine.lr_scheduler_step()
    return {
        "log_probs": data.batch["old_log_probs"],
        "advantages": data.batch["advantages"],
        "weights": data.batch["rollout_is_weights"],
        "gradient": gradient,
        "v": engine.adapter.v.detach().clone(),
    }


def main(spec: dict) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("cpu:gloo", rank=0, world_size=1)
    engine = build_engine(spec)
    from verl.workers.config import ActorConfig

    actor_config = ActorConfig(
        strategy="fsdp2", rollout_n=spec["samples"], use_dynamic_bsz=True, use_torch_compile=False
    )
    samples = load_file(spec["batch"])
    engine.adapter.v.data.copy_(samples["v"])
    result = {}
    for number in range(spec["steps"]):
        taken = step(engine, samples, spec, actor_config)
        result |= {f"{number}.{name}": tensor.contiguous() for name, tensor in taken.items()}
    save_file(result, spec["out"])
    dist.destroy_process_group()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
