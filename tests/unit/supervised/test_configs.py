"""Every recipe is a recipe for both commands, and says the same to both."""

import pytest
from omegaconf import OmegaConf

from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.checks import check_overrides
from tinylora_rl.settings.compose import compose, config_dir

RECIPES = sorted(path.stem for path in (config_dir() / "recipe").glob("*.yaml"))
ADAPTERS = sorted({path.stem for path in (config_dir() / "adapter").glob("*.yaml")} - {"plugin"})
PEERS = ("lora", "full")
SHARED = (
    "seed",
    "task",
    "base_model",
    "adapter",
    "sync",
    "data",
    "run",
    "actor_rollout_ref.model",
    "actor_rollout_ref.actor",
    "grading",
    "trainer.device",
    "trainer.n_gpus_per_node",
    "trainer.project_name",
    "trainer.logger",
    "trainer.resume",
    "trainer.val_before_train",
)


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"+recipe={recipe}"] for recipe in RECIPES),
        *(["+recipe=arithmetic_cpu", f"adapter={adapter}"] for adapter in ("lora_xs", *PEERS)),
    ],
    ids=" ".join,
)
def test_what_a_recipe_says_of_the_actor_holds_for_both_commands(overrides):
    train, sft = compose("train", overrides), compose("sft", overrides)
    assert (train.command, sft.command) == ("train", "sft")
    for config in (train, sft):  # the one stated difference
        OmegaConf.resolve(config)
        del config.actor_rollout_ref.model.lora.tinylora.provenance.reward
    for key in SHARED:
        assert OmegaConf.select(sft, key) == OmegaConf.select(train, key), key
    assert sft.device == train.device


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_passes_the_checks(make, adapter):
    assert make("sft", "+recipe=arithmetic_cpu", f"adapter={adapter}").supervised is not None


def test_tied_lora_xs_is_one_shared_matrix(make):
    tied = make("sft", "+recipe=arithmetic_cpu", "adapter=lora_xs", "adapter.n_tie=all").method
    assert tied.config.num_parameters(num_modules=21) == 4
    untied = make("sft", "+recipe=arithmetic_cpu", "adapter=lora_xs").method
    assert untied.config.num_parameters(num_modules=21) == 84


@pytest.mark.parametrize(
    ("override", "fix"),
    [
        ("actor_rollout_ref.actor.use_kl_loss=true", "leave it out"),
        ("algorithm.adv_estimator=rloo", "leave it out"),
        ("task.control=random", "leave it out"),
        ("actor_rollout_ref.rollout.n=2", "leave it out"),
        ("+algorithm.x=1", "leave it out"),
        ("trainer.total_training_steps=2", "use sft.steps or sft.epochs"),
        ("trainer.save_freq=2", "use sft.save_freq"),
    ],
)
def test_an_override_without_effect_is_refused(override, fix):
    with pytest.raises(ConfigError, match=fix):
        check_overrides(["+recipe=arithmetic_cpu", override])


def test_overrides_with_an_effect_pass():
    check_overrides(
        [
            "+recipe=arithmetic_cpu",
            "adapter=lora",
            "adapter.r=2",
            "seed=1",
            "sft.steps=3",
            "actor_rollout_ref.actor.optim.lr=1e-3",
            "data.train_rows=64",
            "task.eval_samples=1",
            "run.dir=/nowhere",
        ]
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sft.epochs=0", "sft.epochs=0: use a whole number"),
        ("sft.steps=1.5", "sft.steps=1.5: use a whole number"),
        ("sft.max_checkpoints=1", "removes the old checkpoint"),
        ("trainer.nnodes=2", "takes one node"),
        ("trainer.n_gpus_per_node=3", "no multiple"),
    ],
)
def test_settings_out_of_range_are_refused(make, override, message):
    with pytest.raises(ConfigError, match=message):
        make("sft", "+recipe=arithmetic_cpu", override)


@pytest.mark.parametrize(
    ("num_rows", "num_ranks", "overrides", "expected"),
    [
        (100, 1, ["sft.epochs=3"], (18, 3)),  # 6 whole batches of 16 a pass
        (100, 4, ["sft.epochs=3"], (18, 3)),  # 25 rows a rank, 4 of each batch
        (100, 1, ["sft.steps=6"], (6, 1)),
        (100, 1, ["sft.steps=7"], (7, 2)),
    ],
)
def test_number_of_updates(make, num_rows, num_ranks, overrides, expected):
    run = make("sft", "+recipe=arithmetic_cpu", f"trainer.n_gpus_per_node={num_ranks}", *overrides)
    assert run.supervised_steps(num_rows) == expected
