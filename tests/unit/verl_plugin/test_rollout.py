"""The sending end of a sync, without a server."""

import asyncio
from types import SimpleNamespace

import torch

from tests.unit.adapter.models import small_model
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.adapter.bank import bank_to_bytes
from tinylora_rl.verl_plugin.sync import policy_message
from tinylora_rl.verl_plugin.sync.rollout import TinyLoraServerAdapter


def test_a_rank_that_leads_no_replica_builds_no_verifier():
    """It reads no base weights, keeps no bank and asks for none: the leader speaks for all."""
    adapter = inject(small_model(), TinyLoraConfig(u=3, n_tie=4))
    lora = {"tinylora": {"adapter": adapter.config.to_dict(), "sync": {"mode": "vector"}}}
    rank = TinyLoraServerAdapter.__new__(TinyLoraServerAdapter)
    rank.model_config = SimpleNamespace(lora=lora)  # no path: base weights could not be read
    rank.replica_rank, rank._has_server = 0, False
    assert not rank.needs_bank()
    message = policy_message.encode(adapter, bank_to_bytes(adapter.bank), torch.float32)
    asyncio.run(rank.update_weights(message, global_steps=4))
    assert rank._verifier is None
    assert rank.bank is None
    assert rank.sync_metrics["sync/num_acknowledgements"] == 0
    assert rank.sync_metrics["sync/bytes"] == adapter.v.nbytes
