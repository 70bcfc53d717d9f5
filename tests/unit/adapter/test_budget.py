"""The planner against the paper's counts and against the rank of the map it describes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.adapter.models import small_model
from tests.unit.adapter.test_config import PAPER_COUNTS, blocks_of
from tinylora_rl.adapter import TinyLoraConfig, find_targets, plan_budget
from tinylora_rl.adapter.budget import degrees_of_freedom
from tinylora_rl.adapter.projection import draw_projection
from tinylora_rl.adapter.targets import assign_groups


@pytest.mark.parametrize("model", PAPER_COUNTS)
def test_first_plan_is_the_papers(model):
    num_blocks, counts = PAPER_COUNTS[model]
    for n_tie, count in zip((1, 4, 8, 16, 64), counts, strict=True):
        plan = plan_budget({"num_hidden_layers": num_blocks}, num_parameters=count)[0]
        assert plan.config == TinyLoraConfig(u=1, n_tie=plan.config.n_tie)
        assert (plan.num_parameters, plan.num_groups) == (count, count)
        # some n_tie give the same count; the planner ties least
        assert plan.config.n_tie <= n_tie
        assert plan.warning is None


@pytest.mark.parametrize(
    ("num_blocks", "budget", "u"),
    [(28, 392, 2), (28, 6272, 32), (28, 100352, 512), (36, 504, 2), (36, 8064, 32)],
)
def test_table_2s_larger_counts_untie_first_and_warn_past_r_squared(num_blocks, budget, u):
    plan = plan_budget({"num_hidden_layers": num_blocks}, num_parameters=budget)[0]
    assert (plan.config.u, plan.config.n_tie, plan.num_parameters) == (u, 1, budget)
    assert plan.degrees_of_freedom == min(u, 4) * 7 * num_blocks
    if u <= 4:
        assert plan.warning is None
    else:
        spare = (u - 4) * 7 * num_blocks
        assert f"u={u}: {spare} of {budget} numbers are redundant at r=2" in str(plan.warning)


def test_everybody_elses_thirteen_is_in_the_list():
    plans = plan_budget({"num_hidden_layers": 28}, num_parameters=13)
    assert plans[-1].config == TinyLoraConfig(u=13, n_tie="all")
    assert plans[-1].degrees_of_freedom == 13


@given(
    num_blocks=st.integers(1, 8),
    budget=st.integers(1, 500),
    projection=st.sampled_from(["normal", "basis"]),
    r=st.integers(1, 3),
)
@settings(deadline=None)
def test_every_plan_fits_and_no_larger_u_would(num_blocks, budget, projection, r):
    if projection == "basis" and budget < r * r:
        return
    targets = blocks_of(num_blocks)
    plans = plan_budget(targets, num_parameters=budget, projection=projection, r=r)
    assert plans
    assert len({(p.config.tie_mode, p.num_groups) for p in plans}) == len(plans)
    for plan in plans:
        count = plan.config.num_parameters(num_modules=len(targets))
        assert plan.num_parameters == count <= budget
        assert len(set(assign_groups(targets, plan.config).values())) == plan.num_groups
        assert 0 < plan.degrees_of_freedom <= count
        if projection == "normal":
            assert count + plan.num_groups > budget
        else:
            assert plan.config.u == r * r


@pytest.mark.parametrize(
    "config",
    [
        TinyLoraConfig(u=3, n_tie=1),
        TinyLoraConfig(u=6, n_tie=1),
        TinyLoraConfig(u=6, n_tie=2),
        TinyLoraConfig(u=9, n_tie=4),
        TinyLoraConfig(u=70, n_tie="all"),
        TinyLoraConfig(u=5, n_tie=2, tie_mode="structured"),
        TinyLoraConfig(u=4, n_tie=3, projection="basis"),
    ],
    ids=str,
)
def test_degrees_of_freedom_are_the_rank_of_the_map(config):
    targets = blocks_of(2)
    groups = assign_groups(targets, config)
    num_groups = len(set(groups.values()))
    columns = torch.zeros(num_groups, config.u, len(targets), config.r**2, dtype=torch.float64)
    for position, target in enumerate(targets):
        P = draw_projection(config, target.name).double()
        columns[groups[target.name], :, position] = P.flatten(1)
    rank = torch.linalg.matrix_rank(columns.flatten(0, 1).flatten(1))
    assert degrees_of_freedom(targets, config) == int(rank)


def test_bytes_buy_more_numbers_in_16_bits():
    shape = {"num_hidden_layers": 28}
    assert plan_budget(shape, num_bytes=26)[0].num_parameters == 6
    plan = plan_budget(shape, num_bytes=26, v_dtype="bfloat16")[0]
    assert (plan.num_parameters, plan.num_bytes, plan.config.v_dtype) == (13, 26, "bfloat16")


def test_targets_of_a_model_and_of_some_modules_do_too():
    config = TinyLoraConfig(target_modules=("q_proj", "v_proj"))
    model = small_model()
    plans = plan_budget(find_targets(model, config), num_parameters=4)
    assert plans[0].config == TinyLoraConfig(u=1, n_tie=1, target_modules=("q_proj", "v_proj"))
    assert plan_budget(model.config.to_dict(), num_parameters=14)[0].num_groups == 14


@pytest.mark.parametrize(
    ("shape", "fields", "message"),
    [
        ({"num_hidden_layers": 2}, {}, "give exactly one of the two"),
        ({"num_hidden_layers": 2}, {"num_parameters": 1, "num_bytes": 4}, "give exactly one"),
        ({"num_hidden_layers": 2}, {"num_parameters": 0}, "num_parameters=0: pays for no number"),
        ({"num_hidden_layers": 2}, {"num_bytes": 3}, "num_bytes=3: pays for no number of 4 bytes"),
        ({"hidden_size": 2}, {"num_parameters": 1}, "num_hidden_layers=None: give the config"),
        ([], {"num_parameters": 1}, "shape=[]: no target"),
        (
            {"num_hidden_layers": 2},
            {"num_parameters": 3, "projection": "basis"},
            "num_parameters=3: projection=basis trains r*r=4",
        ),
        ({"num_hidden_layers": 2}, {"num_bytes": 8, "v_dtype": "int8"}, "v_dtype='int8': choose"),
    ],
)
def test_what_buys_nothing_is_refused(shape, fields, message):
    with pytest.raises(ValueError, match=r".+") as refusal:
        plan_budget(shape, **fields)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
