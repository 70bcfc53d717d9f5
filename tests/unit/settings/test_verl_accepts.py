"""verl's own checks and dataclasses take what our recipes compose, those for GPUs included."""

import warnings

import pytest

from tests.unit.settings.test_configs import ON_CPU, RECIPES, composed  # noqa: F401  # a fixture
from tinylora_rl.settings.experiment import read
from tinylora_rl.training.preflight import check_verl

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # upstream's, at import
    import verl.workers.config  # noqa: F401
    from verl.trainer.ppo.utils import need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass


@pytest.mark.filterwarnings("ignore:Disabled critic:UserWarning")
@pytest.mark.parametrize("overrides", [(), ON_CPU], ids=["as_is", "on_cpu"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_passes_verls_checks(composed, recipe, overrides):  # noqa: F811
    for kl in ("false", "true"):
        config = composed(
            f"+recipe={recipe}", f"actor_rollout_ref.actor.use_kl_loss={kl}", *overrides
        )
        check_verl(read(config).for_verl())
        assert need_reference_policy(config) is (kl == "true")
        actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
        rollout = omega_conf_to_dataclass(config.actor_rollout_ref.rollout)
        assert actor.optim.weight_decay == 0
        assert rollout.name == "vllm_tinylora"
