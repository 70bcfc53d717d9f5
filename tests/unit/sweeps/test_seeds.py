"""One seed moves every seed of a run, and seed 0 is what the published figures were made with."""

import pytest
from omegaconf import OmegaConf

from tinylora_rl.settings.compose import compose

SEEDS_OF_ZERO = {
    "adapter.seed": 0,
    "actor_rollout_ref.model.lora.tinylora.adapter.seed": 0,
    "data.seed": 42,
    "actor_rollout_ref.rollout.seed": 42,
    "actor_rollout_ref.actor.data_loader_seed": 42,
    "reward.custom_reward_function.reward_kwargs.seed": 42,
}


@pytest.mark.parametrize("seed", [0, 1, 7])
@pytest.mark.parametrize("adapter", ["tinylora", "lora_xs"])
def test_every_seed_follows_from_the_one(seed, adapter):
    config = compose("train", ["+recipe=arithmetic_cpu", f"adapter={adapter}", f"seed={seed}"])
    found = {key: OmegaConf.select(config, key) for key in SEEDS_OF_ZERO}
    assert found == {key: value + seed for key, value in SEEDS_OF_ZERO.items()}
