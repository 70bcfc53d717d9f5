"""The plan's memory follows its stated formulas, and moves with the settings that decide it."""

import pytest

from tests.unit.planning.planning import experiment, values_of
from tinylora_rl.base_model.dims import PUBLISHED
from tinylora_rl.planning.machine import disk, host_memory, shared_memory
from tinylora_rl.planning.memory import GIB, actor_tokens, enough, training_phases
from tinylora_rl.planning.run_plan import training_plan

SHAPE = PUBLISHED["Qwen/Qwen2.5-7B-Instruct"]
WEIGHTS = 2 * SHAPE.num_parameters  # bf16
ADAPTED = 2 * 28 * SHAPE.block_numbers


def seven_b(*overrides: str):
    return experiment("train", {"+recipe": "gsm8k_qwen7b_u13", **values_of(overrides)})


def phases(*overrides: str):
    run = seven_b(*overrides)
    found = training_phases(run, SHAPE, run.method.size(SHAPE))
    return {phase.name: phase for phase in found}


def parts(phase) -> dict[str, float]:
    return {part.name: part.num_bytes for part in (*phase.parts, *phase.share)}


def test_a_step_of_7b_on_eight_gpus():
    found = phases()
    assert list(found) == ["update", "sync", "rollout"]
    update = parts(found["update"])
    tokens = 24_576  # ppo_max_token_len_per_gpu: a rank's share, 32 samples of 4,608, is more
    assert update["actor, 1/8"] == WEIGHTS / 8
    assert update["logits"] == 3 * 2 * tokens * 152_064
    inputs, inside = 28 * 3_584, 10 * 3_584 + 4 * 18_944
    assert update["activations"] == 2 * tokens * (inputs + inside)
    # gathered for a block (model.reshard_after_forward): embedding, output layer and two blocks
    assert update["weights gathered for a block"] == 2 * (
        2 * 152_064 * 3_584 + 2 * SHAPE.block_numbers
    )
    rollout = parts(found["rollout"])
    assert rollout["vLLM's weights"] == WEIGHTS
    assert rollout["KV cache of one sample"] == 4_608 * 2 * 2 * 28 * 4 * 128
    assert "pristine copy" not in rollout


def test_a_rollout_needs_its_share_and_what_is_beside_it():
    rollout = phases()["rollout"]
    inside = sum(part.num_bytes for part in rollout.share)
    beside = sum(part.num_bytes for part in rollout.parts)
    assert rollout.least_bytes() == max(inside / 0.6, beside / 0.4)
    whole = phases("actor_rollout_ref.rollout.gpu_memory_utilization=0.95")["rollout"]
    assert whole.least_bytes() == pytest.approx(beside / 0.05)
    assert rollout.least_bytes(exact_only=True) < rollout.least_bytes()


def test_settings_move_the_phase_they_concern():
    usual = {name: phase.least_bytes() for name, phase in phases().items()}
    for overrides, name, grows in (
        (("actor_rollout_ref.actor.ppo_max_token_len_per_gpu=8192",), "update", False),
        (("base_model.reshard_after_forward=false",), "update", True),
        (("base_model.gradient_checkpointing=false",), "update", True),
        (("trainer.n_gpus_per_node=1",), "update", True),
        (("adapter=full",), "update", True),
        (("sync=vector",), "update", True),
        (("sync=vector", "sync.pristine=host"), "sync", True),  # the bank
        (("actor_rollout_ref.rollout.tensor_model_parallel_size=2",), "rollout", False),
        (("actor_rollout_ref.rollout.free_cache_engine=false",), "update", True),
    ):
        moved = phases(*overrides)[name].least_bytes()
        assert (moved > usual[name]) is grows, overrides
        assert moved != usual[name], overrides


def test_a_pristine_copy_is_of_the_adapted_weights():
    assert parts(phases("sync=vector")["rollout"])["pristine copy"] == ADAPTED
    assert "pristine copy" not in parts(phases("sync=vector", "sync.pristine=host")["rollout"])


def test_a_rollout_elsewhere_is_not_beside_the_actor():
    found = phases("placement=separate")
    assert list(found) == ["update", "rollout"]
    assert "actor, 1/8" not in parts(found["rollout"])
    assert "pristine copy" not in parts(found["update"])


def test_full_fine_tuning_has_gradient_and_optimiser():
    update = parts(phases("adapter=full")["update"])
    assert update["gradient and Adam's state"] == 3 * WEIGHTS / 8


def test_a_short_batch_bounds_the_tokens_of_a_pass():
    run = seven_b("task.max_response_tokens=100")
    assert actor_tokens(run, ranks=8) == 64 * 4 // 8 * 612
    assert actor_tokens(run, ranks=1) == 24_576


def test_the_smallest_gpu_that_will_do_leaves_a_tenth():
    update = phases()["update"]
    assert enough([update]).endswith("(L40S, A100 80GB or H100, H200, B200)")
    assert 0.9 * 39 * GIB < update.least_bytes() < 0.9 * 44 * GIB
    crowd = phases("actor_rollout_ref.rollout.gpu_memory_utilization=0.99")["rollout"]
    assert "no GPU we know" in enough([crowd])


def test_a_node_keeps_the_sleepers_weights():
    usual, dropped = (host_memory(seven_b(f"sync.sleep_level={level}"), SHAPE) for level in (1, 2))
    assert usual == pytest.approx(dropped + 8 * WEIGHTS)


def test_a_disk_holds_checkpoints_and_what_is_downloaded():
    run = seven_b()
    size = run.method.size(SHAPE)
    here, all_ = (disk(run, SHAPE, size, has_model=has) for has in (True, False))
    assert len(all_) == len(here) + 1
    assert 2 * SHAPE.num_parameters in [size for size, _ in all_.values()]
    full = seven_b("adapter=full")
    [(needed, told)] = disk(full, SHAPE, full.method.size(SHAPE), has_model=True).values()
    assert needed == 4 * 3 * WEIGHTS  # every 100 of 348 steps: model and Adam's moments
    assert told.startswith("4 checkpoints of 42.6 GiB")


def test_weights_travel_through_shared_memory_on_a_cpu():
    run = seven_b("device=cpu")
    needed = shared_memory(run, SHAPE, run.method.size(SHAPE))
    assert needed == (1024 << 20) + 500_000_000  # no more than the bucket, and Ray's objects
    assert shared_memory(seven_b(), SHAPE, run.method.size(SHAPE)) == GIB


def test_the_plan_in_words():
    run = seven_b()
    rows = training_plan(run, SHAPE, run.method.size(SHAPE))
    told = dict(rows)
    assert told["trains"].startswith("13 numbers over 196 modules: TinyLoRA r=2 u=13 n_tie=all")
    assert told["sync"] == "merged: 12.2 GiB a step to each of 8 rollout replicas"
    assert "64 prompts x 4 samples = 256 responses" in told["a step"]
    assert "at most 1,179,648 tokens" in told["a step"]
    assert told["steps"].startswith("348, at most 410,517,504 tokens")
    assert "GPU hours" in told["time"]
    assert "assuming 110 + 300 tokens a sample" in told["time"]
    assert told["GPUs"].startswith("8 with ")
    assert any(text.startswith("on fewer (trainer.n_gpus_per_node): 4 with") for _, text in rows)
