"""The policy's weights in one vLLM worker: merges W + dW(v) in place, and measures the result.

Every merge starts from the base weights, never from the merged ones, so that nothing drifts however
often it happens. The base comes from a copy that the worker keeps, or from the checkpoint's files.

Legend: G groups, U len(v), K measured rows, R rank, i columns of a tensor-parallel shard.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import nn

from tinylora_rl.adapter import CheckpointWeights
from tinylora_rl.adapter.bank import Bank
from tinylora_rl.adapter.delta import Factors
from tinylora_rl.adapter.merge import Rounding, Survival, merge_weight
from tinylora_rl.adapter.projection import seeded_generator
from tinylora_rl.adapter.spot_check import choose_rows, measure
from tinylora_rl.vllm_plugin.shards import Shard, find_shards


@dataclasses.dataclass(frozen=True, kw_only=True)
class MergeSettings:
    """Settings of a worker's merges; sent to it as a plain dictionary.

    Attributes:
        groups: {module name: index of its row in v}.
        rounding, seed: of merged weights. The noise of "stochastic" is a function of seed, policy
            version, weight name and the shard's place, so that all replicas get the same weights.
        pristine: source of the base weights: a copy on the "device" or the "host" (pinned memory),
            or the "checkpoint"; "none" where merged weights or LoRA factors arrive from outside.
    """

    groups: Mapping[str, int]
    rounding: Rounding = "nearest"
    seed: int = 0
    pristine: Literal["device", "host", "checkpoint", "none"] = "none"


class WorkerPolicy:
    """The adapted weights of one worker.

    Args:
        model: vLLM's model in this worker. It must still carry the base weights if a copy of them
            is to be kept.
        bank: the factors of every adapted module, unsharded.
        checkpoint: the base model's files, where `settings.pristine` is "checkpoint".

    Raises:
        ValueError: vLLM stores an adapted weight in a form that cannot be merged into.
    """

    def __init__(
        self,
        model: nn.Module,
        bank: Bank,
        settings: MergeSettings,
        *,
        checkpoint: CheckpointWeights | None = None,
    ) -> None:
        self.settings = settings
        self._checkpoint = checkpoint
        self._shards = find_shards(model, bank)
        device = next(iter(self._shards.values())).weight_oi.device
        self._measured = {
            name: _MeasuredRows.of(shard, bank[name], device)
            for name, shard in self._shards.items()
        }
        self._by_weight_name = {shard.weight_name: name for name, shard in self._shards.items()}
        self._layers: dict[int, Any] = {
            id(shard.layer): shard.layer for shard in self._shards.values()
        }
        self._factors: dict[str, Factors] = {}
        self._pristine: dict[int, torch.Tensor] = {}
        if settings.pristine != "none":
            self._factors = {
                name: bank[name].to(device).shard(shard.rows, shard.columns)
                for name, shard in self._shards.items()
            }
        if settings.pristine in ("device", "host"):
            self._pristine = {
                key: _kept_copy(layer.weight.data, settings.pristine)
                for key, layer in self._layers.items()
            }

    @torch.no_grad()
    def merge(self, v_GU: torch.Tensor, noise_seed: str) -> dict[str, float]:
        """Sets the worker's adapted weights to W + dW(v), rounded once.

        Args:
            v_GU: the acting v, fp32.
            noise_seed: seeds stochastic rounding, together with the weight's name.

        Returns:
            Seconds: `merge_s`, and `pack_s` for vLLM's processing of new weights; and the sums
            `survival_kept` and `survival_total` of `Survival`.
        """
        start_s = time.monotonic()
        survival = Survival()
        for name, shard in self._shards.items():
            out_ = shard.weight_oi
            merge_weight(
                self._base(shard).to(out_.device),
                self._factors[name],
                v_GU[self.settings.groups[name]].to(out_.device),
                dtype=out_.dtype,
                rounding=self.settings.rounding,
                generator=self._generator(shard, noise_seed, out_.device),
                survival=survival,
                out_=out_,
            )
        kept, total = float(survival.kept), float(survival.total)  # waits for the device
        merged_s = time.monotonic()
        self.pack()
        return {
            "merge_s": merged_s - start_s,
            "pack_s": time.monotonic() - merged_s,
            "survival_kept": kept,
            "survival_total": total,
        }

    @torch.no_grad()
    def restore(self, keep: Collection[str] = ()) -> None:
        """Writes the base weights back, bit for bit, except those of the modules in `keep`."""
        for name, shard in self._shards.items():
            if name not in keep:
                shard.weight_oi.copy_(self._base(shard))
        self.pack()

    @torch.no_grad()
    def write(self, weight_name: str, weight_OI: torch.Tensor) -> None:
        """Copies this worker's shard of a merged weight into place; `pack` once all are written.

        Raises:
            ValueError: it is none of the adapted weights.
        """
        if weight_name not in self._by_weight_name:
            raise ValueError(f"{weight_name}: not an adapted weight; a sync brings those alone")
        shard = self._shards[self._by_weight_name[weight_name]]
        shard.weight_oi.copy_(weight_OI[shard.rows, shard.columns])

    def pack(self) -> None:
        """Makes vLLM compute with the new weights: its CPU backend multiplies by a packed copy."""
        for layer in self._layers.values():
            layer.quant_method.process_weights_after_loading(layer)

    @torch.no_grad()
    def measurements(self) -> list[dict[str, Any]]:
        """Measures the update in a few rows of each adapted weight, now; see adapter.spot_check.

        Returns:
            One entry per adapted module: `name`, `rows` (of the whole weight), `columns` (start,
            stop) and `values`, len(rows) x R numbers, row by row.
        """
        parts = [
            measured.read(self._shards[name]).flatten() for name, measured in self._measured.items()
        ]
        values = torch.cat(parts).tolist()  # one wait for the device
        entries, start = [], 0
        for (name, measured), part in zip(self._measured.items(), parts, strict=True):
            columns = self._shards[name].columns
            entries.append(
                {
                    "name": name,
                    "rows": measured.rows,
                    "columns": [columns.start, columns.stop],
                    "values": values[start : start + part.numel()],
                }
            )
            start += part.numel()
        return entries

    def _base(self, shard: Shard) -> torch.Tensor:
        if self._checkpoint is not None:
            return self._checkpoint.tensor(shard.weight_name)[shard.rows, shard.columns]
        return self._pristine[id(shard.layer)][shard.local_rows]

    def _generator(
        self, shard: Shard, noise_seed: str, device: torch.device
    ) -> torch.Generator | None:
        if self.settings.rounding != "stochastic":
            return None
        # as in Update.merge; a shard adds where it begins, so that replicated heads agree
        key: list[Any] = [noise_seed, shard.weight_name]
        if shard.rows.start or shard.columns.start:
            key += [shard.rows.start, shard.columns.start]
        seed = seeded_generator("rounding", *key).initial_seed()
        return torch.Generator(device).manual_seed(seed)


@dataclasses.dataclass(frozen=True)
class _MeasuredRows:
    """The rows of one module that `measurements` reads, as far as this worker has them.

    Attributes:
        rows: indices in the whole weight; `local` in the shard.
    """

    rows: list[int]
    local: torch.Tensor
    right_Ri: torch.Tensor

    @classmethod
    def of(cls, shard: Shard, factors: Factors, device: torch.device) -> _MeasuredRows:
        here = range(shard.rows.start, shard.rows.stop)
        rows = [row for row in choose_rows(factors.left_OR) if row in here]
        return cls(
            rows=rows,
            local=torch.tensor([row - here.start for row in rows], dtype=torch.long, device=device),
            right_Ri=factors.right_RI[:, shard.columns].to(device),
        )

    def read(self, shard: Shard) -> torch.Tensor:
        weight_Ki = shard.weight_oi[self.local].double()
        if shard.lora is not None:  # the update is in slot 0 of vLLM's LoRA layer
            layer: Any = shard.lora[0]
            part = shard.lora[1]
            B_KR = layer.lora_b_stacked[part][0, 0][self.local].double()
            weight_Ki = weight_Ki + B_KR @ layer.lora_a_stacked[part][0, 0].double()
        return measure(weight_Ki, self.right_Ri)


def _kept_copy(weight: torch.Tensor, where: str) -> torch.Tensor:
    if where == "device" or weight.device.type == "cpu":
        return weight.clone()
    return torch.empty_like(weight, device="cpu", pin_memory=True).copy_(weight)
