"""Every recipe and every point of every study can be planned, without a GPU and without the hub."""

import pytest
from omegaconf import DictConfig
from tinylora_rl.planning.trained import trained_by

from tests.unit.planning.planning import configured
from tests.unit.recipes.composing import LEARNING_RATE, RECIPES, SWEEPS, points, without
from tinylora_rl.base_model.dims import PUBLISHED, dims_of
from tinylora_rl.planning.run_plan import training_plan
from tinylora_rl.planning.sources import local_model
from tinylora_rl.planning.storage import disk, host_memory

SAME_PLAN = ("seed", LEARNING_RATE)


def planned(config: DictConfig) -> tuple[int, dict[str, str]]:
    """(numbers trained, what the plan says)."""
    shape = dims_of(str(config.base_model.path), local_model(config))
    assert shape is not None
    trained = trained_by(config, shape)
    assert host_memory(config, shape, trained)[0] > 0
    assert all(size > 0 for size, _ in disk(config, shape, trained, has_model=True).values())
    return trained.num_parameters, dict(training_plan(config, shape, trained))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_planned(recipe):
    with configured("train", {"+recipe": recipe}) as config:
        count, told = planned(config)
    assert told["trains"].startswith(f"{count:,} numbers over ")
    assert "assuming" in told["time"]
    assert ("GPUs" in told) is (recipe != "arithmetic_cpu")
    if recipe != "arithmetic_cpu":
        assert config.base_model.path in PUBLISHED
        assert "no GPU we know" not in told["GPUs"]


@pytest.mark.parametrize(("sweep", "verb"), SWEEPS, ids=lambda value: value.removesuffix(".yaml"))
def test_every_point_of_a_study_is_planned(sweep, verb):
    seen = set()
    for values in points(sweep, verb):
        kept = without(values, [key for key in values if key.lstrip("+") in SAME_PLAN])
        if str(kept) in seen:
            continue
        seen.add(str(kept))
        with configured(verb, kept) as config:
            count, told = planned(config)
        assert f"{count:,} numbers" in told["trains"], kept
        assert "time" in told, kept
    assert seen
