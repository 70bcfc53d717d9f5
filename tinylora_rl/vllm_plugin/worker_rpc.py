"""What a vLLM worker answers when it is told to hold a policy, or asked which one it holds."""

from __future__ import annotations

import os
import socket
from typing import Any

import torch

from tinylora_rl.adapter.bank_bytes import bank_from_bytes
from tinylora_rl.vllm_plugin.worker_policy import HeldPolicy, HoldSettings, vector_digest


class PolicyHolder:
    """Mixed into vLLM's worker class through a `worker_extension_cls`; called by `collective_rpc`.

    A worker that starts anew holds no bank and no policy, and says so: whoever sends policies gives
    it the bank again before it is used.
    """

    model_runner: Any
    rank: int
    _held: HeldPolicy | None = None
    _receipt: dict[str, Any] | None = None

    def hold_bank(self, payload: bytes, settings: dict[str, Any]) -> None:
        """This worker can tell what it holds, and re-merge where a pristine copy is asked for.

        Its model must hold the base weights then, which a new worker does that loaded them itself.

        Raises:
            ValueError: see `HeldPolicy`.
        """
        if self._held is not None:
            return  # its weights are merged: no base to copy any more
        self._receipt = None
        self._held = HeldPolicy(
            self.model_runner.model, bank_from_bytes(payload), HoldSettings(**settings)
        )

    def holds_bank(self) -> bool:
        """Whether this worker was given the bank; one that starts anew was not."""
        return self._held is not None

    def hold_vector(self, v: bytes, num_groups: int, policy_version: int | None) -> None:
        """This worker's weights are W + dW(v).

        Args:
            v: (G, U) as it acts, fp32, row by row, little-endian.
        """
        assert self._held is not None, "a worker without a bank is given one first"
        self._receipt = None
        v_GU = torch.frombuffer(bytearray(v), dtype=torch.float32).view(num_groups, -1)
        spent = self._held.remerge(v_GU, policy_version)
        self.note_policy(policy_version, vector_digest(v), **spent)

    def note_policy(self, policy_version: int | None, v_digest: str | None, **facts: Any) -> None:
        """From here on this worker answers for that policy."""
        self._receipt = {"policy_version": policy_version, "v_digest": v_digest, **facts}

    def policy_receipt(self) -> dict[str, Any]:
        """Who this worker is, which policy it holds (None before the first), and what its weights
        say, read from them now.
        """
        return {
            "worker": f"{socket.gethostname()}:{os.getpid()}:rank-{self.rank}",
            "holds_bank": self._held is not None,
            **(self._receipt or {"policy_version": None, "v_digest": None}),
            "testimony": [] if self._held is None else self._held.testimony(),
        }
