"""Every recipe composes, is accepted, and trains as many numbers as the paper and README.md say."""

import dataclasses
import re
import shutil
import warnings

import pytest

from tests.unit.base_model.published import NUM_MODULES, TIED_COUNTS, published_config
from tests.unit.recipes.composing import ON_CPU, RECIPES, composed
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.base_model import BaseModel
from tinylora_rl.base_model.dims import PUBLISHED
from tinylora_rl.errors import ConfigError
from tinylora_rl.settings.experiment import Experiment, read
from tinylora_rl.sweeps.points import recipes_dir
from tinylora_rl.tasks.arithmetic import base_model_dir
from tinylora_rl.training.preflight import check_model, check_verl

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # upstream's, at import
    import verl.workers.config  # noqa: F401

ON_MODELS = [recipe for recipe in RECIPES if recipe != "arithmetic_cpu"]
README_ROW = re.compile(
    r"\| `(?P<recipe>\S+)` \| (?P<model>\S+) \| (?P<data>\S+) \| (?P<modules>[\d,]+) "
    r"\| (?P<numbers>[\d,]+): .*\|"
)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """{hub id: folder with the published configuration and some chat tokenizer}, no weights."""
    folders = {}
    for model in PUBLISHED:
        folder = tmp_path_factory.mktemp(model.rpartition("/")[2])
        for file in base_model_dir().glob("*token*"):
            shutil.copy(file, folder)
        shutil.copy(base_model_dir() / "chat_template.jinja", folder)
        published_config(model).save_pretrained(folder)
        folders[model] = folder
    return folders


def on_published_shape(published, *overrides) -> tuple[Experiment, str]:
    """An experiment whose base model is the folder with the published shape, and the hub id."""
    experiment = read(composed(*overrides))
    model = experiment.base.id
    base = BaseModel(str(published[model]))
    return dataclasses.replace(experiment, base=base), model


def readme_rows() -> dict[str, re.Match[str]]:
    text = (recipes_dir() / "README.md").read_text()
    return {row["recipe"]: row for row in README_ROW.finditer(text)}


def number(text: str) -> int:
    return int(text.replace(",", ""))


@pytest.mark.parametrize("model", TIED_COUNTS)
def test_tied_counts_are_the_papers(model):
    for n_tie, count in zip((1, 4, 8, 16, 64), TIED_COUNTS[model], strict=True):
        tied = TinyLoraConfig(u=1, n_tie=n_tie)
        assert tied.num_parameters(num_modules=NUM_MODULES[model]) == count


@pytest.mark.filterwarnings("ignore:Disabled critic:UserWarning")
@pytest.mark.parametrize("recipe", ON_MODELS)
def test_a_recipe_passes_every_check_that_needs_no_weights(published, recipe):
    run, model = on_published_shape(published, f"+recipe={recipe}")
    check_verl(run.for_verl(model_dir=run.base.folder))
    row = readme_rows()[recipe]
    assert row["model"] == model.rpartition("/")[2]
    assert row["data"].lower() == run.task.name
    assert number(row["modules"]) == NUM_MODULES[model]
    assert check_model(run).startswith(
        f"{number(row['numbers'])} numbers over {NUM_MODULES[model]} modules: r=2 "
    )


@pytest.mark.parametrize("recipe", ON_MODELS)
def test_a_recipe_composes_on_the_cpu_with_the_tiny_model(recipe):
    run = read(composed(f"+recipe={recipe}", *ON_CPU))
    assert run.hardware.kind == "cpu"
    assert "numbers over 21 modules" in check_model(run)
    assert run.base.chat_template_kwargs == {}


@pytest.mark.parametrize("adapter", ["full", "lora", "lora_xs"])
def test_another_adapter_takes_the_place_of_the_recipes(adapter):
    config = composed("+recipe=gsm8k_qwen7b", f"adapter={adapter}")
    assert read(config).method.label == adapter
    assert ("n_tie" in config.adapter) is (adapter == "lora_xs")
    if adapter == "lora_xs":
        assert (config.adapter.u, config.adapter.n_tie) == (4, 1)


def test_the_readme_lists_the_recipes_and_no_others():
    assert sorted(readme_rows()) == ON_MODELS


def test_math_is_the_simplerl_setting():
    config = composed("+recipe=math_qwen7b")
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    assert (actor.use_kl_loss, actor.kl_loss_coef, actor.kl_loss_type) == (
        True,
        0.001,
        "low_var_kl",
    )
    assert not config.algorithm.use_kl_in_reward
    assert (config.data.train_batch_size, rollout.n, rollout.temperature) == (256, 8, 1.0)
    assert (config.data.max_prompt_length, config.data.max_response_length) == (1024, 3072)
    assert (config.data.template, config.data.split) == ("boxed", "simplelr_qwen_level3to5")
    assert config.task.judge == "boxed"
    assert config.trainer.total_epochs == 3
    # the reference policy is the actor without its adapter: no second model is loaded
    assert config.actor_rollout_ref.model.lora.rank > 0


@pytest.mark.parametrize(
    ("recipe", "response"), [("math_qwenmath7b", 3072), ("gsm8k_olmo7b", 3072)]
)
def test_short_contexts_are_respected(published, recipe, response):
    run, model = on_published_shape(published, f"+recipe={recipe}")
    assert PUBLISHED[model].context == 4096
    assert run.batch.max_response_tokens == response
    longer = dataclasses.replace(run.batch, max_response_tokens=4096)
    with pytest.raises(ConfigError, match="exceed the model's 4096"):
        check_model(dataclasses.replace(run, batch=longer))


def test_llama_gets_the_same_date_every_day_and_qwen3_does_not_think():
    llama = composed("+recipe=gsm8k_llama3b").data.apply_chat_template_kwargs
    assert dict(llama) == {"date_string": "26 Jul 2024"}
    qwen3 = composed("+recipe=gsm8k_qwen3_8b").data.apply_chat_template_kwargs
    assert dict(qwen3) == {"enable_thinking": False}
