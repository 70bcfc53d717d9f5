"""Counts, groups and errors of TinyLoraConfig."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.adapter import Target, TinyLoraConfig
from tinylora_rl.adapter.config import TARGET_MODULES
from tinylora_rl.adapter.targets import assign_groups

# arXiv 2602.04118: model, blocks, and the trained numbers at u=1 for n_tie 1, 4, 8, 16, 64
PAPER_COUNTS = {
    "Qwen2.5-0.5B": (24, (168, 42, 21, 11, 3)),
    "Qwen2.5-1.5B": (28, (196, 49, 25, 13, 4)),
    "Qwen2.5-3B": (36, (252, 63, 32, 16, 4)),
    "Qwen2.5-7B": (28, (196, 49, 25, 13, 4)),
    "Llama-3.2-3B": (28, (196, 49, 25, 13, 4)),
    "Llama-3.1-8B": (32, (224, 56, 28, 14, 4)),
    "Qwen3-8B": (36, (252, 63, 32, 16, 4)),
}


def blocks_of(num_blocks: int, types: tuple[str, ...] = TARGET_MODULES) -> list[Target]:
    return [
        Target(name=f"model.layers.{block}.{type_}", block=block, type=type_)
        for block in range(num_blocks)
        for type_ in types
    ]


@pytest.mark.parametrize("model", PAPER_COUNTS)
def test_tied_counts_are_the_papers(model):
    num_blocks, counts = PAPER_COUNTS[model]
    targets = blocks_of(num_blocks)
    for n_tie, count in zip((1, 4, 8, 16, 64), counts, strict=True):
        config = TinyLoraConfig(u=1, n_tie=n_tie)
        assert config.num_parameters(num_modules=7 * num_blocks) == count
        assert len(set(assign_groups(targets, config).values())) == count


@pytest.mark.parametrize(
    ("num_blocks", "u", "n_tie", "count"),
    [
        (28, 1, 16, 13),
        (28, 1, 4, 49),
        (28, 2, 1, 392),
        (28, 32, 1, 6272),
        (28, 512, 1, 100352),
        (36, 1, 16, 16),
        (36, 2, 1, 504),
        (36, 32, 1, 8064),
        (36, 512, 1, 129024),
        (28, 13, "all", 13),
    ],
)
def test_untied_and_shared_counts_are_table_2s(num_blocks, u, n_tie, count):
    assert TinyLoraConfig(u=u, n_tie=n_tie).num_parameters(num_modules=7 * num_blocks) == count


@pytest.mark.parametrize(
    ("blocks_per_group", "count"), [(1, 252), (2, 126), (4, 63), (12, 21), (18, 14), ("all", 7)]
)
def test_structured_counts_are_figure_4s(blocks_per_group, count):
    config = TinyLoraConfig(u=1, tie_mode="structured", n_tie=blocks_per_group)
    assert config.num_parameters(num_modules=7 * 36) == count
    assert len(set(assign_groups(blocks_of(36), config).values())) == count


def test_tiled_shares_among_neighbours_and_structured_among_like():
    targets = blocks_of(4)
    tiled = assign_groups(targets, TinyLoraConfig(u=1, n_tie=3))
    assert [tiled[target.name] for target in targets[:8]] == [0, 0, 0, 1, 1, 1, 2, 2]
    structured = assign_groups(targets, TinyLoraConfig(u=1, n_tie=2, tie_mode="structured"))
    for type_ in TARGET_MODULES:
        in_depth_order = [structured[target.name] for target in targets if target.type == type_]
        assert in_depth_order[0] == in_depth_order[1] != in_depth_order[2] == in_depth_order[3]


@given(
    num_blocks=st.integers(1, 12),
    n_tie=st.one_of(st.just("all"), st.integers(1, 100)),
    tie_mode=st.sampled_from(["tiled", "structured"]),
    u=st.integers(1, 9),
)
def test_groups_are_contiguous_and_counted(num_blocks, n_tie, tie_mode, u):
    config = TinyLoraConfig(u=u, n_tie=n_tie, tie_mode=tie_mode)
    groups = assign_groups(blocks_of(num_blocks), config)
    num_groups = config.num_groups(num_modules=7 * num_blocks)
    assert set(groups.values()) == set(range(num_groups))
    assert config.num_parameters(num_modules=7 * num_blocks) == u * num_groups


def test_modes_all_and_none_are_the_ends_of_tiled():
    targets = blocks_of(3)
    for ends, tiled in (
        (TinyLoraConfig(tie_mode="all"), TinyLoraConfig(n_tie="all")),
        (TinyLoraConfig(tie_mode="none", n_tie=1), TinyLoraConfig(n_tie=1)),
    ):
        assert assign_groups(targets, ends) == assign_groups(targets, tiled)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"u": 0}, "u=0: use an integer of at least 1"),
        ({"n_tie": 0}, 'n_tie=0: use an integer of at least 1, or "all"'),
        ({"n_tie": True}, "n_tie=True: use an integer"),
        ({"r": -1}, "r=-1"),
        ({"u": 1.5}, "u=1.5"),
        ({"tie_mode": "tile"}, "tie_mode='tile': choose from all, tiled"),
        ({"tie_mode": "none"}, "n_tie=all: tie_mode=none ties nothing"),
        ({"tie_mode": "all", "n_tie": 4}, "n_tie=4: tie_mode=all shares one v"),
        ({"projection": "gauss"}, "projection='gauss': choose from normal"),
        ({"projection_std": 0.0}, "projection_std=0.0"),
        ({"target_modules": ()}, "target_modules=[]"),
        ({"target_modules": ("q_proj", "q_proj")}, "name each linear once"),
        ({"rank": 2}, "rank=2: no such field"),
        ({"v_dtype": "int8"}, "v_dtype='int8'"),
        ({"v_master": "yes"}, "v_master='yes': use true or false"),
        ({"projection": "basis"}, "u=13: projection=basis trains the r*r=4 entries of R; use u=4"),
        ({"projection": "basis", "u": 4, "projection_std": 0.5}, "leave it null"),
        (
            {"projection": "basis", "u": 4, "projection_scaling": "inverse_sqrt_u"},
            "projection_scaling=inverse_sqrt_u: projection=basis has entries 0 and 1; use none",
        ),
        ({"projection_scaling": "u"}, "projection_scaling='u': choose from none, inverse_sqrt_u"),
        ({"seed": "x"}, "seed='x'"),
    ],
)
def test_bad_values_are_refused_with_key_value_and_mend(values, message):
    with pytest.raises(ValueError, match=r".+") as refusal:
        TinyLoraConfig.from_dict(values)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_config_survives_a_dictionary():
    config = TinyLoraConfig(u=3, n_tie=4, tie_mode="structured", seed=7, projection="rademacher")
    assert TinyLoraConfig.from_dict(config.to_dict()) == config
