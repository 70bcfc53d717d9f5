"""Runs one rank of a TinyLoRA engine under verl, without Ray.

`python -m tests.unit.verl_plugin.engine_rank SPEC.json`.

Takes three updates on a fixed batch, of which each rank gets its share, and writes what a test
compares.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from tensordict import TensorDict


def build_engine(spec: dict):
    import verl  # noqa: F401  # loads the plugin
    from verl.trainer.config import CheckpointConfig
    from verl.workers.config import FSDPEngineConfig, FSDPOptimizerConfig, HFModelConfig

    from tinylora_rl.methods.tinylora import TinyLora
    from tinylora_rl.verl_plugin.engine import TinyLoraEngine

    dtype = spec.get("dtype", "fp32")
    adapter = {"adapter": spec["adapter"], "sync": {"dtype": "float32"}}
    model_config = HFModelConfig(
        path=spec["model"],
        model_type=TinyLora.model_type,
        lora={"rank": 2, "merge": True, "tinylora": adapter},
        override_config={"attn_implementation": "sdpa"},
        use_remove_padding=False,
        enable_gradient_checkpointing=spec.get("checkpointing", False),
    )
    engine_config = FSDPEngineConfig(
        strategy=spec["strategy"],
        model_dtype=dtype,
        mixed_precision={"param_dtype": dtype, "reduce_dtype": "fp32", "buffer_dtype": "fp32"},
        reshard_after_forward=spec.get("reshard_after_forward", True),
        param_offload=spec.get("offload", False),
        optimizer_offload=spec.get("offload", False),
        use_torch_compile=False,
        use_dynamic_bsz=True,
        max_token_len_per_gpu=64,  # several micro-batches a rank
        infer_max_token_len_per_gpu=64,
    )
    optimizer = {
        "lr": 0.01,
        # a rate that moves: a resume that forgets it shows
        "lr_scheduler_type": "cosine",
        "lr_warmup_steps": 2,
        **spec.get("optimizer", {}),
    }
    optimizer_config = FSDPOptimizerConfig(
        optimizer="Adam",
        weight_decay=0.0,
        clip_grad=1.0,
        total_training_steps=10,
        zero_indexed_step=False,
        **optimizer,
    )
    engine = TinyLoraEngine(model_config, engine_config, optimizer_config, CheckpointConfig())
    engine.initialize()
    return engine


def batch_of(rank: int, world_size: int) -> TensorDict:
    """Every world-size-th of eight sequences of different lengths; the loss counts their second
    halves.
    """
    from verl.utils import tensordict_utils as tu

    generator = torch.Generator().manual_seed(0)
    lengths = [6, 11, 9, 14, 7, 12, 8, 10]
    rows = [torch.randint(3, 60, (length,), generator=generator) for length in lengths][
        rank::world_size
    ]

    def nested(tensors):
        return torch.nested.as_nested_tensor(tensors, layout=torch.jagged)

    data = TensorDict(
        {
            "input_ids": nested(rows),
            "position_ids": nested([torch.arange(len(row)) for row in rows]),
            "loss_mask": nested([(torch.arange(len(row)) >= len(row) // 2).long() for row in rows]),
        },
        batch_size=len(rows),
    )
    tu.assign_non_tensor(
        data,
        use_remove_padding=False,
        use_dynamic_bsz=True,
        max_token_len_per_gpu=64,
        temperature=1.0,
        pad_token_id=0,
        use_fused_kernels=False,
    )
    return data


def refusals(engine, take_update) -> dict[str, str]:
    """Collects the errors of updates that are refused because of the last rank alone; v stays."""
    from tinylora_rl.verl_plugin.nan_guard import NonFiniteError

    is_last = dist.get_rank() == dist.get_world_size() - 1
    nan = float("nan")
    v, said = engine.adapter.v, {}

    def attempt(name: str) -> None:
        before = v.detach().clone()
        with engine.train_mode():
            try:
                take_update()
            except NonFiniteError as error:
                said[name] = str(error)
        assert torch.equal(v.detach(), before), name

    forward_step = type(engine).__mro__[1].forward_step

    def bad_loss(self, *args):
        loss, output = forward_step(self, *args)
        return loss, {**output, "loss": nan} if is_last else output

    type(engine).__mro__[1].forward_step = bad_loss
    attempt("loss")
    type(engine).__mro__[1].forward_step = forward_step

    bad = torch.ones_like(v)
    bad[-1] = nan
    hook = v.register_hook(lambda gradient: gradient * bad if is_last else gradient)
    attempt("gradient")
    hook.remove()

    engine.optimizer.state[v]["exp_avg"][0, 0] = float("inf")
    attempt("v")
    return said


def main(spec: dict) -> None:
    from functools import partial

    from verl.workers.utils.losses import sft_loss

    from tinylora_rl.runs.progress import ProgressFile
    from tinylora_rl.verl_plugin.sync import policy_message

    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    dist.init_process_group("cpu:gloo", rank=rank, world_size=world_size)
    engine = build_engine(spec)
    loss = partial(sft_loss, config=None)
    out = Path(spec["out"])
    result: dict[str, torch.Tensor] = {}

    progress = ProgressFile(out)
    if rank == 0:
        progress.create()
        engine.progress = progress

    grad_norms, metrics = [], {}
    for _ in range(3):
        with engine.train_mode():
            outputs = engine.train_batch(batch_of(rank, world_size), loss)
            metrics = outputs["metrics"]
        grad_norms.append(metrics["grad_norm"])
        engine.lr_scheduler_step()
    if rank == 0:
        (out / "progress.txt").write_text(str(progress.read()))
    v = engine.adapter.v.detach().clone()
    result["v"] = v
    result["grad_norms"] = torch.tensor(grad_norms)
    result["num_optimised"] = torch.tensor(
        [sum(p.numel() for g in engine.optimizer.param_groups for p in g["params"])]
    )
    result["v_norm_metric"] = torch.tensor(metrics["tinylora/v_norm"])

    merged = dict(engine.get_per_tensor_param()[0])
    for target in engine.adapter.targets:
        result[f"merged.{target.weight_name}"] = merged[target.weight_name].contiguous()

    with engine.sending(3, with_bank=False) as sending:
        sent = [name for name, _ in engine.get_per_tensor_param()[0]]
    assert policy_message.BANK in merged
    assert policy_message.BANK not in sent
    assert sending.survival.total > 0

    def log_probs() -> torch.Tensor:
        with engine.eval_mode():
            return engine.infer_batch(batch_of(rank, world_size), loss)["model_output"][
                "log_probs"
            ].values()

    result["log_probs"] = log_probs()
    with engine.disable_adapter():
        result["reference_log_probs"] = log_probs()

    # a checkpoint brings everything back, bit for bit, and the next update is the same
    engine.save_checkpoint(str(out / "checkpoint"), global_step=3)

    def one_more() -> torch.Tensor:
        with engine.train_mode():
            engine.train_batch(batch_of(rank, world_size), loss)
        draw = torch.rand(2)
        return torch.cat([engine.adapter.v.detach().flatten().clone(), draw])

    undisturbed = one_more()
    engine.adapter.v.data.zero_()
    engine.optimizer.state.clear()
    torch.manual_seed(99)
    engine.load_checkpoint(str(out / "checkpoint"))
    result["reloaded_v"] = engine.adapter.v.detach().clone()
    result["undisturbed"], result["resumed"] = undisturbed, one_more()

    refused = refusals(engine, lambda: engine.train_batch(batch_of(rank, world_size), loss))
    (out / f"refused{rank}.json").write_text(json.dumps(refused))
    save_file(
        {key: value.contiguous() for key, value in result.items()},
        str(out / f"rank{rank}.safetensors"),
    )
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
