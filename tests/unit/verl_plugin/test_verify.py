"""Receipts of rollout workers against what the trainer knows."""

import pytest
import torch

from tests.unit.adapter.models import small_model
from tinylora_rl.adapter import CheckpointWeights, TinyLoraConfig, build_bank, inject, targets_of
from tinylora_rl.adapter.spot_check import choose_rows, measure
from tinylora_rl.verl_plugin.sync.deadline import SyncError
from tinylora_rl.verl_plugin.sync.verify import ExpectedReceipt, Verifier, canary_metrics

CONFIG = TinyLoraConfig(u=2, n_tie=7)


def receipt(version: int | None = 4, num_tensors: int | None = 21) -> dict:
    return {"worker": "host:0", "policy_version": version, "num_tensors": num_tensors}


def test_all_equal_is_an_acknowledgement():
    ExpectedReceipt(policy_version=4, num_tensors=21).check([receipt(), receipt()])


@pytest.mark.parametrize(
    ("receipts", "message"),
    [
        ([], "no rollout worker acknowledged policy version 4"),
        (
            [receipt(), receipt(version=3)],
            "worker host:0 holds policy version 3, the trainer sent policy version 4",
        ),
        ([receipt(num_tensors=20)], "holds tensor count 20, the trainer sent tensor count 21"),
        ([receipt(None, None)], "holds policy version None"),
    ],
)
def test_anything_else_ends_the_run(receipts, message):
    with pytest.raises(SyncError, match=message):
        ExpectedReceipt(policy_version=4, num_tensors=21).check(receipts)


def test_another_v_is_named():
    claim = ExpectedReceipt(policy_version=4, v_digest="aa")
    with pytest.raises(SyncError, match="holds v bb, the trainer sent v aa"):
        claim.check([{**receipt(), "v_digest": "bb"}])


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """(adapter on a bf16 checkpoint, the checkpoint)."""
    folder = tmp_path_factory.mktemp("base")
    model = small_model(dtype=torch.bfloat16)
    model.save_pretrained(folder)
    base = CheckpointWeights(folder)
    bank = build_bank(base, targets_of(base.names(), CONFIG), CONFIG)
    adapter = inject(model, CONFIG, bank=bank)
    adapter.v.data.copy_(torch.randn(adapter.v.shape, generator=torch.manual_seed(5)) * 0.05)
    return adapter, base


def receipts_of(
    adapter, base, v: torch.Tensor, dtype: torch.dtype, *, num_workers: int = 1
) -> list[dict]:
    """Builds receipts of workers with base + dW(v), columns of some weights cut among them."""
    kept = adapter.v.data.clone()
    adapter.v.data.copy_(v)
    names = [target.weight_name for target in adapter.targets]
    merged = dict(adapter.merge(((name, base.tensor(name)) for name in names), dtype=dtype))
    adapter.v.data.copy_(kept)
    receipts = []
    for worker in range(num_workers):
        measurements = []
        for name, factors in adapter.bank.items():
            weight = merged[f"{name}.weight"]
            rows, columns = choose_rows(factors.left_OR), slice(0, weight.shape[1])
            if name.endswith(("o_proj", "down_proj")):
                width = weight.shape[1] // num_workers
                columns = slice(worker * width, (worker + 1) * width)
            else:
                height = weight.shape[0] // num_workers
                rows = [row for row in rows if row // height == worker]
            read = measure(weight[rows][:, columns], factors.right_RI[:, columns])
            measurements.append(
                {
                    "name": name,
                    "rows": rows,
                    "columns": [columns.start, columns.stop],
                    "values": read.flatten().tolist(),
                }
            )
        receipts.append({**receipt(), "worker": f"host:{worker}", "measurements": measurements})
    return receipts


def verifier(adapter, base, dtype, rounded="nearest") -> Verifier:
    return Verifier(adapter.bank, adapter.groups, base, dtype=dtype, rounded=rounded)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_worker_with_the_policy_passes(adapted, dtype, num_workers):
    adapter, base = adapted
    v = adapter.v.data
    receipts = receipts_of(adapter, base, v, dtype, num_workers=num_workers)
    measured = verifier(adapter, base, dtype).check(receipts, v)
    assert measured["sync/held_share"] == pytest.approx(1, abs=8 * measured["sync/held_resolution"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("factor", "share"), [(0.0, "0"), (2.0, "2"), (0.5, "0.5"), (-1.0, "-1")])
def test_a_worker_with_another_policy_is_found(adapted, dtype, factor, share):
    adapter, base = adapted
    v = adapter.v.data
    receipts = receipts_of(adapter, base, v, dtype) + receipts_of(adapter, base, factor * v, dtype)
    receipts[1]["worker"] = "host:the-one"
    with pytest.raises(SyncError, match="worker host:the-one claims policy version 4") as caught:
        verifier(adapter, base, dtype).check(receipts, v)
    said = float(str(caught.value).partition(": ")[2].partition(" of the way")[0])
    assert said == pytest.approx(float(share), abs=0.15)


def test_one_module_alone_is_found(adapted):
    """A tensor that kept its old values, of fourteen: the mean over all would hardly move."""
    adapter, base = adapted
    v = adapter.v.data
    receipts, stale = (
        receipts_of(adapter, base, v, torch.bfloat16),
        receipts_of(adapter, base, 0 * v, torch.bfloat16),
    )
    receipts[0]["measurements"][3] = stale[0]["measurements"][3]
    name = stale[0]["measurements"][3]["name"]
    with pytest.raises(SyncError, match=f"off in {name}"):
        verifier(adapter, base, torch.bfloat16).check(receipts, v)


@pytest.mark.parametrize("first", [0.0, 0.5, 0.85])
def test_a_torn_tensor_is_found(adapted, first):
    """A stretch of one tensor kept the base's rows: of each eighth of the rows one is measured."""
    adapter, base = adapted
    v = adapter.v.data
    torn, stale = (receipts_of(adapter, base, value, torch.bfloat16) for value in (v, 0 * v))
    entry, old = (receipts[0]["measurements"][3] for receipts in (torn, stale))
    num_rows = len(adapter.bank[entry["name"]].left_OR)
    start, stop = int(first * num_rows), int(first * num_rows) + -(-num_rows // 4)
    width = len(entry["values"]) // len(entry["rows"])
    lost = [index for index, row in enumerate(entry["rows"]) if start <= row < stop]
    assert 0 < len(lost) < len(entry["rows"])
    for index in lost:
        part = slice(index * width, (index + 1) * width)
        entry["values"][part] = old["values"][part]
    with pytest.raises(SyncError, match=f"off in {entry['name']}"):
        verifier(adapter, base, torch.bfloat16).check(torn, v)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_the_start_the_base_is_the_policy(adapted, dtype):
    adapter, base = adapted
    zero = torch.zeros_like(adapter.v.data)
    measured = verifier(adapter, base, dtype).check(receipts_of(adapter, base, zero, dtype), zero)
    assert measured["sync/held_share"] != measured["sync/held_share"]  # of no update: no share
    wrong = receipts_of(adapter, base, zero, dtype)
    wrong[0]["measurements"][0]["values"][0] *= 1.05  # another base
    with pytest.raises(SyncError, match="weights are another's"):
        verifier(adapter, base, dtype).check(wrong, zero)


def test_a_worker_without_measurements_or_with_nan_is_refused(adapted):
    adapter, base = adapted
    v = adapter.v.data
    with pytest.raises(SyncError, match="host:0"):
        verifier(adapter, base, torch.float32).check([{**receipt(), "measurements": []}], v)
    receipts = receipts_of(adapter, base, v, torch.float32)
    receipts[0]["measurements"][0]["values"][0] = float("nan")
    with pytest.raises(SyncError, match="inf standard deviations"):
        verifier(adapter, base, torch.float32).check(receipts, v)


def test_factors_are_held_to_their_own_precision(adapted):
    """bf16 factors beside the base: off by up to 2^-8 of the update, and by nothing else."""
    adapter, base = adapted
    v = adapter.v.data
    receipts = receipts_of(adapter, base, 0 * v, torch.bfloat16)
    for entry, (name, (A_RI, B_OR)) in zip(
        receipts[0]["measurements"], adapter.lora_factors().items(), strict=True
    ):
        assert entry["name"] == name
        factors = adapter.bank[name]
        rows = entry["rows"]
        weight = base.tensor(f"{name}.weight")[rows].double()
        weight = weight + B_OR[rows].bfloat16().double() @ A_RI.bfloat16().double()
        entry["values"] = measure(weight, factors.right_RI).flatten().tolist()
    verifier(adapter, base, torch.bfloat16, "factors").check(receipts, v)
    with pytest.raises(SyncError, match="weights are another's"):
        verifier(adapter, base, torch.bfloat16, "factors").check(receipts, 1.05 * v)


POLICY, BASE = [-1.0, -2.0], [-1.5, -3.5]


def metrics(**rollouts: list[float]) -> dict[str, float]:
    return canary_metrics(rollouts, POLICY, BASE, max_diff=0.5, policy_version=7)


def test_distances_are_means_over_the_tokens_of_the_worst_replica():
    measured = metrics(near=[-1.0, -2.0], far=[-1.2, -2.2])
    assert measured["sync/canary_actor_diff"] == pytest.approx(0.2)
    assert measured["sync/canary_base_distance"] == pytest.approx((0.3 + 1.3) / 2)
    assert measured["sync/canary_policy_distance"] == pytest.approx(1.0)


@pytest.mark.parametrize("wrong", [BASE, [float("nan"), -2.0]])
def test_a_sampler_that_is_another_policy_stops_the_run(wrong):
    with pytest.raises(SyncError, match=r"rollout replica_1 .* at policy version 7"):
        metrics(replica_0=POLICY, replica_1=wrong)
