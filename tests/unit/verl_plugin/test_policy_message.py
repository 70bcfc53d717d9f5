"""The stream that carries a policy, in every mode and by either transport."""

import asyncio

import pytest
import torch

from tests.unit.adapter.models import small_model
from tinylora_rl.adapter import TinyLoraConfig, find_targets, inject
from tinylora_rl.adapter.bank import bank_from_bytes, bank_to_bytes
from tinylora_rl.verl_plugin.sync import policy_message
from tinylora_rl.verl_plugin.sync.broadcast import BroadcastEngine


@pytest.fixture
def adapter():
    adapter = inject(small_model(), TinyLoraConfig(u=3, n_tie=4))
    adapter.v.data.normal_(generator=torch.manual_seed(1))
    return adapter


def read(stream) -> tuple[policy_message.Policy, list[tuple[str, torch.Tensor]]]:
    async def all_of_it():
        policy, rest = await policy_message.decode(stream)
        return policy, [item async for item in rest]

    return asyncio.run(all_of_it())


def test_a_bank_arrives_bit_for_bit_in_order(adapter):
    arrived = bank_from_bytes(bank_to_bytes(adapter.bank))
    assert list(arrived) == list(adapter.bank)
    for name, factors in adapter.bank.items():
        assert torch.equal(arrived[name].left_OR, factors.left_OR)
        assert torch.equal(arrived[name].right_RI, factors.right_RI)
        assert torch.equal(arrived[name].P_URR, factors.P_URR)
        assert arrived[name].weight_norm == factors.weight_norm


def test_the_header_is_read_and_the_rest_left(adapter):
    bank = bank_to_bytes(adapter.bank)
    rest = [("a", torch.ones(2)), ("b", torch.zeros(3))]
    policy, left = read(iter([*policy_message.encode(adapter, bank, torch.bfloat16), *rest]))
    assert torch.equal(policy.v_GU, adapter.v.data)
    assert policy.bank == bank
    assert policy.base_dtype == torch.bfloat16
    assert len(policy.v_bytes) == adapter.v.numel() * 4
    assert [name for name, _ in left] == ["a", "b"]


def test_whole_weights_without_a_header_are_no_adapter():
    policy, left = read(iter([("w", torch.ones(1))]))
    assert policy.v_GU is None
    assert policy.v_digest is None
    assert [name for name, _ in left] == ["w"]


def test_lora_tensors_are_the_update(adapter):
    tensors = dict(policy_message.lora_tensors(adapter, torch.float32))
    model = small_model()
    for target in find_targets(model, adapter.config):
        B_OR = tensors[f"base_model.model.{target.name}.lora_B.weight"]
        A_RI = tensors[f"base_model.model.{target.name}.lora_A.weight"]
        merged = dict(adapter.merge(model.state_dict().items()))[target.weight_name]
        base = model.get_parameter(target.weight_name)
        torch.testing.assert_close(base + B_OR @ A_RI, merged)
    config = policy_message.lora_config(adapter.config)
    assert config["lora_alpha"] == config["r"]


def test_a_broadcast_reaches_all_replicas_and_brings_the_bank_once(adapter):
    """One store in this process: the trainer's rank 0, its rank 1, and two rollout workers."""
    bank = bank_to_bytes(adapter.bank) + bytes(20 << 20)  # as large as a 7B's
    engines = [BroadcastEngine(0, is_master=True, deadline_s=10)]
    engines += [BroadcastEngine(0, deadline_s=10) for _ in range(3)]

    def sync(version: int):
        metadata = [engine.prepare() for engine in engines]
        actors, rollouts = BroadcastEngine.build_topology(2, 2, metadata)
        for position, engine in enumerate(engines):
            kwargs, index = (actors, position) if position < 2 else (rollouts, position - 2)
            engine.init_process_group(**{key: values[index] for key, values in kwargs.items()})

        async def both_ends():
            sent = [
                await engine.send_weights(
                    policy_message.encode(adapter, bank, torch.bfloat16), version
                )
                for engine in engines[:2]
            ]
            return sent, [
                await policy_message.decode(engine.receive_weights(version))
                for engine in engines[2:]
            ]

        sent, received = asyncio.run(both_ends())
        for engine in engines:
            engine.finalize()
        return sent, [policy for policy, _ in received]

    for version in (0, 1, 2, 3):
        adapter.v.data += 1
        sent, policies = sync(version)
        assert all(torch.equal(policy.v_GU, adapter.v.data) for policy in policies)
        assert [policy.bank == bank for policy in policies] == [version == 0] * 2
        wanted = adapter.v.nbytes + (len(bank) if version == 0 else 0)
        assert [engine.get("sync/broadcast_bytes") for engine in sent] == [wanted, None]
