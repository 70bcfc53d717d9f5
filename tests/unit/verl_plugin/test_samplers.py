"""After sampling every worker is asked for its policy version, and measures nothing for it.

The same on real workers: tests/unit/vllm_plugin and tests/integration/test_sync_faults.py.
"""

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from tinylora_rl.settings.in_workers import SyncConfig
from tinylora_rl.verl_plugin import trainer
from tinylora_rl.verl_plugin.sync.deadline import SyncError

NEVER_SYNCED = {"worker": "host:2", "policy_version": None, "v_digest": None}


@dataclasses.dataclass
class Server:
    """A rollout server that answers at once; `measure` must be false."""

    receipts: list[dict[str, Any]]

    @property
    def policy_receipts(self) -> Any:
        def remote(*, measure: bool) -> list[dict[str, Any]]:
            assert not measure
            return self.receipts

        return SimpleNamespace(remote=remote)


def check(monkeypatch, *receipts: dict[str, Any]) -> None:
    monkeypatch.setattr(trainer.ray, "get", lambda answer, timeout: answer)
    hooks = SimpleNamespace(
        _rollout_servers=lambda: [Server([receipt]) for receipt in receipts],
        _sync=SyncConfig(),
        _synced_version=7,
    )
    trainer.TinyLoraHooks._check_samplers(hooks)


def synced(version: int) -> dict[str, Any]:
    return {"worker": "host:1", "policy_version": version, "v_digest": "aa"}


def test_workers_with_the_synced_version_pass(monkeypatch):
    check(monkeypatch, synced(7), synced(7))


@pytest.mark.parametrize(
    ("receipt", "message"),
    [
        (
            NEVER_SYNCED,
            "worker host:2 holds policy version None, the trainer sent .* 7",
        ),
        (synced(6), "worker host:1 holds policy version 6"),
    ],
)
def test_a_worker_that_restarted_or_missed_a_sync_is_named(monkeypatch, receipt, message):
    with pytest.raises(SyncError, match=message):
        check(monkeypatch, synced(7), receipt)
