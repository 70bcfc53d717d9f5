"""Extends verl's FSDP engine by a TinyLoRA adapter: frozen sharded base, replicated fp32 v.

Selected by `actor_rollout_ref.model.model_type: tinylora`. v lives outside the sharded units, so
this engine averages its gradient, clips and steps, as FSDP does for parameters of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_id, get_device_name
from verl.utils.fsdp_utils import fsdp_version
from verl.utils.model import convert_weight_keys
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from tinylora_rl.adapter import Adapter, Survival
from tinylora_rl.adapter.bank import bank_to_bytes
from tinylora_rl.base_model import checkpoint_folder, commit_of
from tinylora_rl.methods.tinylora import TinyLora
from tinylora_rl.runs.progress import ProgressFile
from tinylora_rl.settings.in_workers import sync_config
from tinylora_rl.verl_plugin.build_adapter import inject_on_all_ranks
from tinylora_rl.verl_plugin.checkpoint import TinyLoraCheckpointManager
from tinylora_rl.verl_plugin.gradient_snr import MicroBatchNoise, moment_snr
from tinylora_rl.verl_plugin.nan_guard import (
    NonFiniteError,
    check_gradient,
    check_loss,
    check_vector,
)
from tinylora_rl.verl_plugin.sync import policy_message

MAX_LOGGED_ENTRIES = 64  # of v, each a metric of its own; of a longer v only norms are logged


@dataclasses.dataclass
class Sending:
    """One sync, as the engine sends it."""

    policy_version: int | None = None  # verl's global step; seeds stochastic rounding
    with_bank: bool = True  # for a rollout that has none yet
    survival: Survival = dataclasses.field(default_factory=Survival)  # once it is all sent


@EngineRegistry.register(
    model_type=TinyLora.model_type, backend=["fsdp", "fsdp2"], device=["cuda", "cpu"]
)
class TinyLoraEngine(FSDPEngineWithLMHead):
    """One rank of the actor."""

    adapter: Adapter  # `adapter.v` is the only trained tensor, equal on all ranks
    progress: ProgressFile | None = None  # of the samples of an update; None on ranks but 0
    _sending: Sending | None = None
    _num_bad_losses = 0  # micro-batches of this update
    _num_samples = 0  # of this update, so far

    # Upstream calls it once, when the Ray worker builds its model.
    # We refuse unsupported settings first, and put our checkpoints in place of upstream's.
    def initialize(self) -> None:
        self._check_settings()
        super().initialize()
        self.checkpoint_manager = TinyLoraCheckpointManager(
            adapter=self.adapter,
            optimizer=self.optimizer,
            lr_scheduler=self.lr_scheduler,
            provenance=self._provenance() if self.rank == 0 else {},  # which rank 0 writes
        )

    def _provenance(self) -> dict[str, Any]:
        stated = dict(self.model_config.lora["tinylora"].get("provenance") or {})
        stated.setdefault("base_model", self.model_config.path)
        folder = checkpoint_folder(self.model_config.local_path)
        stated["base_revision"] = commit_of(folder)
        return {key: value for key, value in stated.items() if value is not None}

    def _check_settings(self) -> None:
        strategy = self.engine_config.strategy
        if strategy == "fsdp" and get_device_name() == "cpu":
            raise ValueError(
                "actor.strategy=fsdp: torch's FSDP1 synchronises no CPU module; use "
                "actor.strategy=fsdp2"
            )
        precision = self.engine_config.mixed_precision or {}
        if precision.get("param_dtype") in ("fp16", "float16"):
            raise ValueError(
                "mixed_precision.param_dtype=fp16: v is fp32 and no loss scaler knows it; use bf16 "
                "or fp32"
            )

    # Upstream's `initialize` calls it to load the base model.
    # We wrap the target linears of what it returns; FSDP shards the result, without v.
    def _build_module(self) -> torch.nn.Module:
        # verl loads a causal language model under this name; ours only selects this engine.
        self.model_config.model_type = "language_model"
        try:
            module = super()._build_module()
        finally:
            self.model_config.model_type = TinyLora.model_type
        self.adapter = inject_on_all_ranks(module, self.model_config)
        return module

    # Upstream's `initialize` calls it with the sharded module.
    # We optimise v alone.
    def _build_optimizer(self, module: torch.nn.Module) -> torch.optim.Optimizer:
        from verl.workers.config.optimizer import build_optimizer

        del module  # frozen
        self._noise = MicroBatchNoise(self.adapter.v)
        return build_optimizer([self.adapter.v], self.optimizer_config)

    # Upstream calls it once per mini-batch: zero_grad, forward_backward_batch, optimizer_step.
    # We add the metrics of v to its outputs, and report the progress.
    def train_batch(self, data: Any, loss_function: Any) -> Any:
        self._num_bad_losses = self._num_samples = 0
        if self.progress is not None:
            self.progress.begin("update", len(data))
        outputs = super().train_batch(data, loss_function)
        if self.is_mp_src_rank_with_outputs():
            outputs["metrics"].update(self._metrics())
        return outputs

    # Upstream calls it for each micro-batch, of updates and of log-probs (forward_only).
    # We count losses that are not finite; `optimizer_step` raises for them, on all ranks at once: a
    # rank that raised here would leave the others waiting in a collective.
    def forward_step(self, micro_batch: Any, loss_function: Any, forward_only: bool) -> Any:
        loss, output = super().forward_step(micro_batch, loss_function, forward_only)
        if not forward_only:
            self._num_bad_losses += not math.isfinite(output["loss"])
            self._num_samples += len(micro_batch)
            if self.progress is not None:
                self.progress.advance_to(self._num_samples)
        return loss, output

    # Upstream's `train_batch` calls it after the backward passes; it clips, steps, and skips an
    # update whose gradient is not finite. We also average v's gradient, and raise instead.
    def optimizer_step(self) -> float:
        """Moves v equally on all ranks; returns the norm of the averaged gradient, unclipped.

        Raises:
            NonFiniteError: on all ranks alike, when the loss of one, the gradient or the moved v is
                not finite; v is then what it was.
        """
        v = self.adapter.v
        if v.grad is None:
            v.grad = torch.zeros_like(v)  # no token of this rank counted
        # The scale FSDP gives its own parameters: the mean over all ranks, sequence-parallel ones
        # too. Summed and divided because gloo has no AVG; in fp32 whatever v's dtype.
        self._micro_batch_snr = self._noise.take_snr()
        before_GU = v.detach().clone()
        gradient = v.grad.to(torch.float32)
        dist.all_reduce(gradient, op=dist.ReduceOp.SUM)
        num_bad_losses = torch.tensor(self._num_bad_losses, device=gradient.device)
        dist.all_reduce(num_bad_losses, op=dist.ReduceOp.SUM)
        v.grad.copy_(gradient / dist.get_world_size())
        update = self.lr_scheduler.last_epoch + 1  # the scheduler counts them, over resumes too
        check_loss(int(num_bad_losses), update)
        gradient_GU = v.grad.clone()  # clipping a gradient that overflows leaves nothing to name
        grad_norm = torch.nn.utils.clip_grad_norm_([v], max_norm=self.optimizer_config.clip_grad)
        check_gradient(gradient_GU, grad_norm, update)
        self.optimizer.step()
        try:
            check_vector(v.detach(), update)
        except NonFiniteError:
            v.data.copy_(before_GU)
            raise
        self._step_GU = v.detach() - before_GU
        return float(grad_norm)

    def _metrics(self) -> dict[str, list[float]]:
        """Computes `tinylora/*` and `signal/*`, as lists: verl averages them over ranks."""
        v = self.adapter.v.detach()
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        metrics = {
            "tinylora/v_norm": float(v.norm()),
            "tinylora/v_max_abs": float(v.abs().max()),
            "tinylora/relative_delta_norm": self.adapter.relative_delta_norm(),
            "tinylora/num_parameters": float(sum(p.numel() for p in trained)),
            "tinylora/step_norm": float(self._step_GU.norm()),
            "tinylora/relative_step_norm": self.adapter.relative_delta_norm(self._step_GU),
        }
        if v.numel() <= MAX_LOGGED_ENTRIES:
            metrics |= {f"tinylora/v/{at:02d}": float(x) for at, x in enumerate(v.flatten())}
        snr_G = moment_snr(
            self.optimizer.state[self.adapter.v], self.optimizer.param_groups[0]["betas"]
        )
        if snr_G is not None:
            metrics["signal/snr_mean"] = float(snr_G.mean())
            metrics["signal/snr_min"] = float(snr_G.min())
        if self._micro_batch_snr is not None:
            metrics["signal/microbatch_snr"] = self._micro_batch_snr
        return {key: [value] for key, value in metrics.items()}

    @contextmanager
    def sending(self, policy_version: int | None, *, with_bank: bool) -> Iterator[Sending]:
        """Sets the policy that `get_per_tensor_param`, without such arguments, streams inside."""
        self._sending = Sending(policy_version, with_bank)
        try:
            yield self._sending
        finally:
            self._sending = None

    # Upstream's `ActorRolloutRefWorker.update_weights` calls it and passes the stream on.
    # We stream a policy message in place of the module's weights.
    def get_per_tensor_param(
        self, **kwargs: Any
    ) -> tuple[Generator[tuple[str, torch.Tensor], None, None], dict[str, Any] | None]:
        """Encodes the policy (`sync.policy_message`); all ranks must consume it together."""
        del kwargs  # verl's LoRA settings; ours are in sync
        sync = sync_config(self.model_config.lora)
        sending = self._sending or Sending()
        base_dtype = next(self.module.parameters()).dtype
        bank = self.bank_bytes if sending.with_bank else None
        header = policy_message.encode(self.adapter, bank, base_dtype)
        if sync.mode == "vector":
            return header, None  # type: ignore[return-value]
        dtype = getattr(torch, sync.dtype)
        if sync.mode == "factors":
            factors = policy_message.lora_tensors(self.adapter, dtype)
            return chain(header, factors), policy_message.lora_config(self.adapter.config)  # type: ignore[return-value]
        merged = self.adapter.merge(
            self._base_weights(adapted_only=sync.sleep_level == 1),
            dtype=dtype,
            rounding=sync.rounding,  # type: ignore[arg-type]
            seed=f"{sync.seed}:{sending.policy_version}",
            survival=sending.survival,
        )
        return chain(header, merged), None  # type: ignore[return-value]

    @functools.cached_property
    def bank_bytes(self) -> bytes:
        """Serialises the bank, once, for rollout workers that have none yet."""
        return bank_to_bytes(self.adapter.bank)

    def _base_weights(self, *, adapted_only: bool) -> Iterator[tuple[str, torch.Tensor]]:
        """Yields whole pristine weights by Hugging Face name, gathered one at a time."""
        names = [target.weight_name for target in self.adapter.targets]  # in one order on all ranks
        if not adapted_only or fsdp_version(self.module) == 1:
            # FSDP1 gathers all of a unit at once anyway
            weights, peft_config = super().get_per_tensor_param()
            assert peft_config is None, "the base model must not be a PEFT model"
            yield from (item for item in weights if not adapted_only or item[0] in names)
            return
        # FSDP2's state dict refers to the shards; only what is asked for is gathered
        shards = convert_weight_keys(self.module.state_dict(), self.module)
        for name in names:
            shard = shards[name]
            is_sharded = isinstance(shard, DTensor)
            yield name, shard.to(get_device_id()).full_tensor() if is_sharded else shard

    @torch.no_grad()
    def token_log_probs(self, token_ids: list[int]) -> list[float]:
        """Computes log p of token_ids[1:] at temperature 1; all ranks take part, alike."""
        fields = {"input_ids": token_ids, "position_ids": range(len(token_ids))}
        batch = tu.get_tensordict(
            {
                key: torch.nested.as_nested_tensor([torch.tensor(value)], layout=torch.jagged)
                for key, value in fields.items()
            },
            non_tensor_dict={
                "temperature": 1.0,
                "use_remove_padding": self.model_config.use_remove_padding,
                "use_fused_kernels": self.engine_config.use_fused_kernels,
            },
        )
        with self.eval_mode():
            _, output = self.forward_step(batch, loss_function=None, forward_only=True)
        log_probs = output["model_output"]["log_probs"].values().float()
        return log_probs[: len(token_ids) - 1].tolist()  # the last one has no next token

    # Upstream enters it around the reference policy's log-probs (`ref_in_actor`).
    # It switches PEFT's adapter off; we switch off ours.
    def disable_adapter(self) -> AbstractContextManager[None]:
        return self.adapter.disabled()

    # Upstream calls both with a folder for the actor; it saves the module's shards.
    # We save v and the state of its optimiser; the base is never saved.
    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.checkpoint_manager.save_checkpoint(*args, **kwargs)

    def load_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.checkpoint_manager.load_checkpoint(*args, **kwargs)
