"""Every point of every sweep file would start, and all sizes of the paper are among them."""

import copy
import json
import re
from collections.abc import Iterable

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from tests.unit.base_model.published import LORA_RANK_1, NUM_MODULES
from tests.unit.recipes.composing import (
    LEARNING_RATE,
    ON_CPU,
    SWEEPS,
    Values,
    as_overrides,
    composed,
    points,
    without,
)
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.settings.experiment import read
from tinylora_rl.studies import paper
from tinylora_rl.sweeps.points import recipes_dir

OF_A_DEFAULT = "sync_rounding"  # no study of the paper's
SCRIPTS = {"in_one_file", "with_trl"}  # no study, but a file to read and run
STUDIES = sorted(
    path.parent.name
    for path in recipes_dir().glob("*/README.md")
    if path.parent.name not in {OF_A_DEFAULT, *SCRIPTS}
)
PAPERS_STUDIES = {
    "table2_math",
    "fig1_rl_size_sweep",
    "fig2_sft_size_sweep",
    "fig3_model_size",
    "fig4_precision_and_tying",
    "fig5_training_curves",
    "fig6_backbones",
    "fig7_rank",
    "fig8_u_vs_tie",
}
TRIED_ELSEWHERE = {"controls", "fig5_training_curves", "gsm8k_13_numbers", "arithmetic_rl_vs_sft"}
GROUPS = ("+recipe", "adapter")
RATE_AND_SEED = (LEARNING_RATE, "seed")
SECTIONS = ("claim", "```bash", "Hardware, cost.", "To expect", "With care.", "Not run")
README_ROW = re.compile(r"\| \[`(\w+)`\]\(\1/README.md\) \| ([\d,]+) \| (\d+) \|")


def families(sweep: str, command: str) -> list[tuple[DictConfig, list[Values]]]:
    """Returns the points of a sweep that choose the same groups, with what Hydra composes."""
    found: dict[str, list[Values]] = {}
    for point in points(sweep, command):
        groups = {key: point[key] for key in GROUPS if key in point}
        found.setdefault(json.dumps(groups), []).append(point)
    return [
        (composed(*as_overrides(json.loads(groups)), command=command), members)
        for groups, members in found.items()
    ]


def with_values(config: DictConfig, point: Values) -> DictConfig:
    """Returns `config` with the point's own values. As on the command line, an unknown key is an
    error.
    """
    changed = copy.deepcopy(config)
    assert OmegaConf.is_struct(changed)
    for key, value in without(point, GROUPS).items():
        OmegaConf.update(changed, key, value)
    return changed


def differing_in_more_than_rate_and_seed(members: list[Values]) -> Iterable[Values]:
    return {json.dumps(without(point, RATE_AND_SEED)): point for point in members}.values()


def sizes(sweep: str, command: str) -> list[tuple[str, dict[str, object], int | None, Values]]:
    """Returns (model, adapter, trained numbers, point) of every point; None: full fine-tuning."""
    found = []
    for base, members in families(sweep, command):
        model = base.base_model.path
        for point in members:
            adapter = adapter_of(base, point)
            found.append((model, adapter, trained_numbers(model, adapter), point))
    return found


def adapter_of(base: DictConfig, point: Values) -> dict[str, object]:
    sizes = {
        key.removeprefix("adapter."): value
        for key, value in point.items()
        if key.startswith("adapter.")
    }
    return {**OmegaConf.to_container(base.adapter, resolve=True), **sizes}


def beside_the_adapter(point: Values) -> list[str]:
    return [key for key in point if not key.startswith("adapter.")]


def trained_numbers(model: str, adapter: dict[str, object]) -> int | None:
    if not adapter:
        return None
    if "u" not in adapter:
        return adapter["r"] * LORA_RANK_1[model]
    config = TinyLoraConfig.from_dict(adapter)
    return config.num_parameters(num_modules=NUM_MODULES.get(model, 21))


def short(model: str) -> str:
    return model.rpartition("/")[2]


@pytest.mark.parametrize(
    ("sweep", "command"), SWEEPS, ids=lambda value: value.removesuffix(".yaml")
)
def test_every_point_would_start(sweep, command):
    for base, members in families(sweep, command):
        for point in differing_in_more_than_rate_and_seed(members):
            config = with_values(base, point)
            read(config)
            assert trained_numbers(base.base_model.path, adapter_of(base, point)) != 0
            if "u" not in base.adapter and config.trainer.device == "cuda":
                # the model itself or PEFT's LoRA is trained, not a frozen one's adapter
                assert config.actor_rollout_ref.actor.fsdp_config.model_dtype == "fp32"
        for point in members:
            assert 0 <= float(point[LEARNING_RATE]) < 0.1
            assert point["seed"] in (0, 1, 2)


def test_every_kind_of_point_composes_on_the_cpu():
    kinds = {
        json.dumps([command, point.get("adapter"), sorted(beside_the_adapter(point))]): (
            point,
            command,
        )
        for sweep, command in SWEEPS
        for point in points(sweep, command)
    }
    for point, command in kinds.values():
        config = composed(*as_overrides(point), *ON_CPU, command=command)
        read(config)
        assert config.trainer.device == "cpu"


@pytest.mark.parametrize("model", paper.TABLE_2)
def test_every_row_of_table_2_is_a_point_with_the_papers_sharing(model):
    found = [
        (adapter, count)
        for name, adapter, count, point in sizes("table2_math/sweep.yaml", "train")
        if short(name) == model and point["seed"] == 0 and point[LEARNING_RATE] == 1e-4
    ]
    rows = [count for count in paper.TABLE_2[model] if count != 0]  # step 0 of each run is that row
    assert sorted((count for _, count in found), key=str) == sorted(rows, key=str)
    for adapter, count in found:
        if count is not None:
            u_tie = paper.TABLE_2_SIZES[paper.NUM_MODULES[model]][count]
            assert (adapter["u"], adapter["n_tie"]) == u_tie
            assert (adapter["r"], adapter["tie_mode"]) == (2, "tiled")


@pytest.mark.parametrize(
    ("sweep", "command", "counts"),
    [
        ("fig1_rl_size_sweep/sweep.yaml", "train", {**paper.FIGURE_1, **paper.FIGURE_1_LORA}),
        ("fig2_sft_size_sweep/sweep.yaml", "sft", {**paper.FIGURE_2, **paper.FIGURE_2_LORA}),
    ],
    ids=["figure_1", "figure_2"],
)
def test_every_size_of_figures_1_and_2_is_there(sweep, command, counts):
    found = {count for _, _, count, _ in sizes(sweep, command)}
    for count in counts:
        if count is None:
            assert None in found
        elif count:  # read off: 2 % is what an axis gives
            assert any(abs(count - ours) <= 0.02 * count for ours in found - {None}), count


def test_reinforcement_and_imitation_are_compared_at_the_same_sizes():
    by_verb = [
        {(count, adapter.get("projection")) for _, adapter, count, _ in sizes(sweep, command)}
        for sweep, command in (
            ("fig1_rl_size_sweep/sweep.yaml", "train"),
            ("fig2_sft_size_sweep/sweep.yaml", "sft"),
        )
    ]
    assert by_verb[1] == {size for size in by_verb[0] if size[1] != "basis"}
    content = yaml.safe_load((recipes_dir() / "arithmetic_rl_vs_sft/sweep.yaml").read_text())
    assert content["train"] == content["sft"]


def test_every_point_of_figures_4_7_and_8_is_there():
    fig4 = {
        (adapter["tie_mode"], adapter["v_dtype"], count)
        for _, adapter, count, _ in sizes("fig4_precision_and_tying/sweep.yaml", "train")
    }
    for (tie_mode, v_dtype), curve in paper.FIGURE_4.items():
        assert {(tie_mode, v_dtype, count) for count in curve} <= fig4
    fig7 = sizes("fig7_rank/sweep.yaml", "train")
    assert {(adapter["r"], adapter["u"]) for _, adapter, _, _ in fig7} == {
        (r, 1) for r in paper.FIGURE_7
    }
    fig8 = sizes("fig8_u_vs_tie/sweep.yaml", "train")
    ties = {adapter["n_tie"] for _, adapter, _, _ in fig8 if adapter["u"] == 1}
    assert set(paper.FIGURE_8) <= ties


@pytest.mark.parametrize(
    ("sweep", "command"),
    [(sweep, command) for sweep, command in SWEEPS if sweep.split("/")[0] not in TRIED_ELSEWHERE],
)
def test_the_papers_rates_and_seeds_are_tried_and_more_where_little_is_trained(sweep, command):
    by_size: dict[str, tuple[set[float], set[int], bool]] = {}
    for model, adapter, _, point in sizes(sweep, command):
        key = json.dumps([model, adapter, without(point, RATE_AND_SEED)])
        rates, seeds, _ = by_size.setdefault(key, (set(), set(), bool(adapter)))
        rates.add(float(point[LEARNING_RATE]))
        seeds.add(point["seed"])
    for rates, seeds, is_adapter in by_size.values():
        assert set(paper.LEARNING_RATES) <= rates
        assert len(seeds) == paper.NUM_SEEDS
        assert max(rates) == (2e-3 if is_adapter else 2e-4)


def test_the_controls_say_what_they_are_in_the_configuration():
    found = sizes("controls/sweep.yaml", "train")
    models = {short(model) for model, *_ in found}
    assert models == {"Qwen2.5-7B-Instruct", "Llama-3.1-8B-Instruct", "OLMo-2-1124-7B-SFT"}
    for model in models:
        of_model = [point for name, _, _, point in found if short(name) == model]
        controls = {point.get("task.control") for point in of_model}
        assert controls == {None, "format_only", "random", "always_wrong"}
        assert any(point[LEARNING_RATE] == 0 for point in of_model)
    corrections = {
        (point["algorithm.rollout_correction.rollout_is"], point["sync.rounding"])
        for *_, point in found
        if "sync.rounding" in point
    }
    assert corrections == {
        (level, rounding) for level in (None, "token") for rounding in ("nearest", "stochastic")
    }


def test_every_study_has_a_folder_with_a_readme_and_a_sweep():
    assert PAPERS_STUDIES | {"controls"} <= set(STUDIES)
    assert {sweep.split("/")[0] for sweep, _ in SWEEPS} == set(STUDIES)
    for study in PAPERS_STUDIES:
        text = (recipes_dir() / study / "README.md").read_text()
        missing = [section for section in SECTIONS if section not in text]
        assert not missing, f"{study}: {missing}"
        assert f"sweep={study}" in text
        assert "tolerance" in text.lower()


def test_the_readme_counts_the_runs():
    rows = README_ROW.findall((recipes_dir() / "README.md").read_text())
    assert sorted(study for study, *_ in rows) == STUDIES
    for study, runs, at_one in rows:
        found = [
            (command, json.dumps(without(point, RATE_AND_SEED)))
            for sweep, command in SWEEPS
            if sweep == f"{study}/sweep.yaml"
            for point in points(sweep, command)
        ]
        assert (int(runs.replace(",", "")), int(at_one)) == (len(found), len(set(found))), study
