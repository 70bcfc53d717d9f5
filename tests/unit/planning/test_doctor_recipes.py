"""Every recipe and every point of every study can be planned, without a GPU and without the hub."""

import pytest

from tests.unit.planning.planning import experiment
from tests.unit.recipes.composing import LEARNING_RATE, RECIPES, SWEEPS, points, without
from tinylora_rl.base_model.dims import PUBLISHED
from tinylora_rl.planning.machine import disk, host_memory
from tinylora_rl.planning.run_plan import training_plan
from tinylora_rl.settings.experiment import Experiment

SAME_PLAN = ("seed", LEARNING_RATE)


def planned(run: Experiment) -> tuple[int, dict[str, str]]:
    """(numbers trained, {label: text} of the plan)."""
    dims = run.base.dims
    assert dims is not None
    size = run.method.size(dims)
    assert host_memory(run, dims) > 0
    assert all(needed > 0 for needed, _ in disk(run, dims, size, has_model=True).values())
    return size.num_parameters, dict(training_plan(run, dims, size))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_is_planned(recipe):
    run = experiment("train", {"+recipe": recipe})
    count, lines = planned(run)
    assert lines["trains"].startswith(f"{count:,} numbers over ")
    assert "assuming" in lines["time"]
    assert ("GPUs" in lines) is (recipe != "arithmetic_cpu")
    if recipe != "arithmetic_cpu":
        assert run.base.id in PUBLISHED
        assert "no GPU we know" not in lines["GPUs"]


@pytest.mark.parametrize(
    ("sweep", "command"), SWEEPS, ids=lambda value: value.removesuffix(".yaml")
)
def test_every_point_of_a_study_is_planned(sweep, command):
    seen = set()
    for values in points(sweep, command):
        kept = without(values, [key for key in values if key.lstrip("+") in SAME_PLAN])
        if str(kept) in seen:
            continue
        seen.add(str(kept))
        count, lines = planned(experiment(command, kept))
        assert f"{count:,} numbers" in lines["trains"], kept
        assert "time" in lines, kept
    assert seen
