"""Which points a sweep has, and that a point's folder depends on its overrides alone."""

import random
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.errors import ConfigError
from tinylora_rl.sweeps.points import (
    MAX_NAME_LENGTH,
    expand,
    load_study,
    point_name,
    quoted,
    recipe_of,
    recipes_dir,
    run_dir_of,
    short_names,
    study_name,
)

STUDY = """
train:
  - +recipe: [gsm8k_qwen7b, math_qwen7b]
    adapter.u, adapter.n_tie: [[1, 16], [2, 1]]
    actor_rollout_ref.actor.optim.lr: [1.0e-4, 1e-3]
    seed: [0, 1]
  - +recipe: gsm8k_qwen7b
    adapter: full
    task.eval_benchmarks: "[math500,amc23]"
    data.path: null
    seed: 0
sft:
  - +recipe: gsm8k_qwen7b
"""


@pytest.fixture
def study(tmp_path):
    def written(text: str) -> str:
        path = tmp_path / "sizes" / "sweep.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return written


def test_a_block_is_a_product_of_keys_and_a_study_the_union_of_its_blocks(study):
    points = expand(load_study(study(STUDY), "train"))
    assert len(points) == 2 * 2 * 2 * 2 + 1
    assert points[0] == (
        "+recipe=gsm8k_qwen7b",
        "adapter.u=1",
        "adapter.n_tie=16",
        "actor_rollout_ref.actor.optim.lr=0.0001",
        "seed=0",
    )
    pairs = {tuple(sorted(set(point) & {"adapter.u=1", "adapter.u=2", "adapter.n_tie=16",
                                        "adapter.n_tie=1"})) for point in points[:-1]}  # fmt: skip
    assert pairs == {("adapter.n_tie=16", "adapter.u=1"), ("adapter.n_tie=1", "adapter.u=2")}
    assert "adapter=full" in points[-1]
    assert "task.eval_benchmarks=[math500,amc23]" in points[-1]
    assert "data.path=null" in points[-1]
    assert len(expand(load_study(study(STUDY), "sft"))) == 1
    assert study_name(study(STUDY)) == "sizes"


def test_older_spellings_of_a_study_are_translated_with_a_hint(study, capsys):
    older = "train: [{platform: [cpu, cuda], adapter: tinylora_u13}]"
    points = expand(load_study(study(older), "train"))
    assert points == [("device=cpu", "adapter=tinylora"), ("device=cuda", "adapter=tinylora")]
    assert "hint: platform=cpu: is now spelled device=cpu" in capsys.readouterr().err


def test_the_command_line_takes_the_place_of_the_same_key_in_every_block(study):
    blocks = load_study(study(STUDY), "train")
    points = expand(blocks, ["seed=5", "recipe=arithmetic_cpu", "adapter.u=4"])
    # recipes, seeds and sizes have become one; n_tie and the learning rate remain
    assert len(points) == 2 * 2 + 1
    assert all({"seed=5", "recipe=arithmetic_cpu", "adapter.u=4"} <= set(p) for p in points)
    assert not any(part.startswith("adapter.u=1") for point in points for part in point)
    more = expand(blocks, ["seed=0,1,2", "device=cpu"])
    assert len(more) == (2 * 2 * 2 + 1) * 3


def test_without_a_study_the_command_line_is_swept_as_hydra_does():
    points = expand([], ["+recipe=arithmetic_cpu", "adapter.u=1,4,13", "seed=range(0,3)"])
    assert len(points) == 9
    assert points[1] == ("+recipe=arithmetic_cpu", "adapter.u=1", "seed=1")
    assert expand([], ["seed=0,0,1"]) == [("seed=0",), ("seed=1",)]
    assert expand([]) == [()]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a: 1", "is no mapping"),
        ("sft: []", "start it as python -m tinylora_rl.sft"),
        ("train: {a: 1}", "is no list of blocks"),
        ("train: [3]", "is no mapping"),
        ("train:\n - seed: []", "seed has no values"),
        ("train:\n - seed, adapter.u: [[1, 2], [1]]", "is no list of 2 values"),
        ("train:\n - a, b: [[1, 2]]\n   +b: 3", "b stands there twice"),
        ("train:\n - a: [[1, 2]]", "only as a text"),
        ("train: [", "is no YAML"),
    ],
)
def test_a_sweep_file_that_is_not_the_format_is_refused_in_one_line(study, text, said):
    with pytest.raises(ConfigError, match=r"^sweep=") as refused:
        load_study(study(text), "train")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_is_no_study_or_no_override_is_refused():
    with pytest.raises(ConfigError, match="no such study; choose from"):
        load_study("table_of_nothing", "train")
    with pytest.raises(ConfigError, match="no such file"):
        load_study("nowhere/sweep.yaml", "train")
    with pytest.raises(ConfigError, match="each point of a sweep has its own"):
        expand([], ["run.dir=here"])
    with pytest.raises(ConfigError, match="an interval has no points"):
        expand([], ["seed=interval(0,1)"])
    with pytest.raises(ConfigError, match="as on the command line"):
        expand([], ["seed=[0"])


@pytest.mark.parametrize(
    "path", sorted(recipes_dir().glob("*/sweep.yaml")), ids=lambda p: p.parent.name
)
def test_every_study_of_ours_has_points_with_folders_of_their_own(path):
    for verb in yaml.safe_load(path.read_text()):
        points = expand(load_study(path.parent.name, verb))
        assert points
        assert len({point_name(point) for point in points}) == len(points)


# -- names ----------------------------------------------------------------------------------------

keys = st.sampled_from(
    [
        "seed",
        "adapter",
        "adapter.u",
        "adapter.seed",
        "data.seed",
        "actor_rollout_ref.actor.optim.lr",
        "lr",
        "data.path",
    ]
)
values = st.one_of(
    st.integers(-3, 300),
    st.sampled_from(
        ["null", "true", "1e-4", "0.5", "full", "'a b'", "'a,b'", "[1,2]", "a/b", "x_y"]
    ),
)
settings = st.dictionaries(keys, values, min_size=1)


def overrides(chosen: dict) -> list[str]:
    return [f"{key}={value}" for key, value in chosen.items()]


@given(settings, st.randoms(use_true_random=False))
def test_a_name_does_not_depend_on_the_order(chosen, shuffler: random.Random):
    point = overrides(chosen)
    shuffled = list(point)
    shuffler.shuffle(shuffled)
    assert point_name(shuffled) == point_name(point)


@given(settings, settings)
def test_different_points_have_different_names(one, other):
    assert (point_name(overrides(one)) == point_name(overrides(other))) is (one == other)


@given(st.dictionaries(keys, st.text(max_size=60), min_size=1))
def test_a_name_needs_no_quotes_and_fits_a_file_system(chosen):
    name = point_name([f"{key}={quoted(value)}" for key, value in chosen.items()])
    assert len(name) <= MAX_NAME_LENGTH
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")
    assert point_name([f"data.path={name}"])  # an override takes it as it is


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and text.strip("./")))
def test_a_folder_survives_being_an_override(folder):
    assert run_dir_of(["seed=1", f"run.dir={quoted('/x/' + folder)}"]) == Path("/x/" + folder)


def test_names_are_for_people():
    point = ["seed=0", "+recipe=math_qwen7b", "adapter.n_tie=16", "adapter.u=1", "run.dir=/x",
             "actor_rollout_ref.actor.optim.lr=1e-4", "task.eval_rows=null"]  # fmt: skip
    name = "lr-0.0001__n_tie-16__seed-0__u-1__task.eval_rows-null"
    assert point_name(point) == f"math_qwen7b__{name}"
    assert point_name(point, without_recipe=True) == name
    assert point_name(["+seed=0", "++adapter.u=4"]) == point_name(["adapter.u=4", "seed=0"])
    assert recipe_of(point) == "math_qwen7b"
    assert recipe_of(["seed=1"]) is None
    assert short_names(["a-1__b-2", "a-2__b-2"]) == ["a-1", "a-2"]
    assert short_names(["a-1__b-2"]) == ["a-1__b-2"]
    assert short_names([]) == []


@pytest.mark.parametrize("spelling", ["1e-4", "1.0e-4", "0.0001", ".0001"])
def test_a_value_has_one_name_however_it_is_spelt(spelling):
    assert point_name([f"actor_rollout_ref.actor.optim.lr={spelling}"]) == "lr-0.0001"
