"""The policy inside one vLLM worker: re-merged in place from v, and asked what it really is.

The worker keeps, besides vLLM's own parameters, the bank and a pristine copy of its shard of the
adapted weights. A new policy is then v alone, u * G numbers: W + dW(v) is written over the old
merged weights, always from the pristine ones, so that nothing drifts however often it happens.

Legend: G groups, U len(v), K witness rows, R rank.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import nn

from tinylora_rl.adapter.bank import Bank
from tinylora_rl.adapter.delta import Factors
from tinylora_rl.adapter.merge import Rounding, Survival, merge_weight
from tinylora_rl.adapter.projection import seeded_generator
from tinylora_rl.adapter.spot_check import reading, witness_rows
from tinylora_rl.vllm_plugin.shards import Shard, find_shards


@dataclasses.dataclass(frozen=True, kw_only=True)
class HoldSettings:
    """How a worker holds policies; travels as a plain dictionary.

    Attributes:
        groups: {module name: index of its row in v}.
        rounding, seed: of merged weights; the noise of "stochastic" is a function of seed, policy
            version, weight name and the shard's place, so all replicas hold the same weights.
        pristine: where the copy of the adapted base weights is kept: "device", or "host" (pinned);
            "none" where whole merged weights or factors arrive from outside.
    """

    groups: Mapping[str, int]
    rounding: Rounding = "nearest"
    seed: int = 0
    pristine: Literal["device", "host", "none"] = "none"


class HeldPolicy:
    """One worker's adapted weights.

    Args:
        model: vLLM's model in this worker; holds the base weights now if `pristine` is not "none".
        bank: the factors of every adapted module, whole.

    Raises:
        ValueError: the model holds an adapted weight in a way that cannot be re-merged.
    """

    def __init__(self, model: nn.Module, bank: Bank, settings: HoldSettings) -> None:
        self.settings = settings
        self._shards = find_shards(model, bank)
        device = next(iter(self._shards.values())).weight_oi.device
        self._witnesses = {
            name: _WitnessShard.of(shard, bank[name], device)
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
            self._pristine = {
                key: _kept_copy(layer.weight.data, settings.pristine)
                for key, layer in self._layers.items()
            }

    @torch.no_grad()
    def remerge(self, v_GU: torch.Tensor, policy_version: int | None) -> dict[str, float]:
        """The worker's weights are W + dW(v), rounded once from the pristine ones.

        Args:
            v_GU: v as it acts, fp32.

        Returns:
            Seconds: `merge_s`, and `pack_s` for what vLLM makes of new weights; and the sums
            `survival_kept` and `survival_total` of `Survival`.
        """
        start_s = time.monotonic()
        survival = Survival()
        for name, shard in self._shards.items():
            out_ = shard.weight_oi
            merge_weight(
                self._pristine[id(shard.layer)][shard.local_rows].to(out_.device),
                self._factors[name],
                v_GU[self.settings.groups[name]].to(out_.device),
                rounding=self.settings.rounding,
                generator=self._generator(shard, policy_version, out_.device),
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
    def take(self, weight_name: str, weight_OI: torch.Tensor) -> None:
        """This worker's shard of one adapted weight is that of `weight_OI`; see `pack`.

        Raises:
            ValueError: it is none of the adapted weights.
        """
        if weight_name not in self._by_weight_name:
            raise ValueError(f"{weight_name}: not an adapted weight; a sync brings those alone")
        shard = self._shards[self._by_weight_name[weight_name]]
        shard.weight_oi.copy_(weight_OI[shard.rows, shard.columns])

    def pack(self) -> None:
        """vLLM computes with the weights as they are now: on a CPU it keeps a packed copy."""
        for layer in self._layers.values():
            layer.quant_method.process_weights_after_loading(layer)

    def _generator(
        self, shard: Shard, policy_version: int | None, device: torch.device
    ) -> torch.Generator | None:
        if self.settings.rounding != "stochastic":
            return None
        # as Update.merge has it; a shard draws for where it begins, so that replicated heads agree
        key: list[Any] = [f"{self.settings.seed}:{policy_version}", shard.weight_name]
        if shard.rows.start or shard.columns.start:
            key += [shard.rows.start, shard.columns.start]
        noise_seed = seeded_generator("rounding", *key).initial_seed()
        return torch.Generator(device).manual_seed(noise_seed)

    @torch.no_grad()
    def testimony(self) -> list[dict[str, Any]]:
        """What this worker's weights say of the update they carry, now; see adapter.witness.

        Returns:
            One entry per adapted module: `name`, `rows` (of the whole weight), `columns` (start,
            stop) and `reading`, len(rows) x R numbers, row by row.
        """
        readings = [
            witness.read(self._shards[name]).flatten() for name, witness in self._witnesses.items()
        ]
        values = torch.cat(readings).tolist()  # one wait for the device
        entries, start = [], 0
        for (name, witness), part in zip(self._witnesses.items(), readings, strict=True):
            columns = self._shards[name].columns
            entries.append(
                {
                    "name": name,
                    "rows": witness.rows,
                    "columns": [columns.start, columns.stop],
                    "reading": values[start : start + part.numel()],
                }
            )
            start += part.numel()
        return entries


@dataclasses.dataclass(frozen=True)
class _WitnessShard:
    rows: list[int]
    local: torch.Tensor
    right_Ri: torch.Tensor

    @classmethod
    def of(cls, shard: Shard, factors: Factors, device: torch.device) -> _WitnessShard:
        held = range(shard.rows.start, shard.rows.stop)
        rows = [row for row in witness_rows(factors.left_OR) if row in held]
        return cls(
            rows=rows,
            local=torch.tensor([row - held.start for row in rows], dtype=torch.long, device=device),
            right_Ri=factors.right_RI[:, shard.columns].to(device),
        )

    def read(self, shard: Shard) -> torch.Tensor:
        weight_Ki = shard.weight_oi[self.local].double()
        if shard.lora is not None:
            layer: Any = shard.lora[0]
            slot = shard.lora[1]
            B_KR = layer.lora_b_stacked[slot][0, 0][self.local].double()
            weight_Ki = weight_Ki + B_KR @ layer.lora_a_stacked[slot][0, 0].double()
        return reading(weight_Ki, self.right_Ri)


def vector_digest(v_bytes: bytes) -> str:
    """By which both ends name the v they mean: of its bits."""
    return hashlib.sha256(v_bytes).hexdigest()[:16]


def _kept_copy(weight: torch.Tensor, where: str) -> torch.Tensor:
    if where == "device" or weight.device.type == "cpu":
        return weight.clone()
    return torch.empty_like(weight, device="cpu", pin_memory=True).copy_(weight)
