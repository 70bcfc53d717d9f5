"""Every recipe and group composes, and says what its name says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import JUDGES
from tinylora_rl.settings.compose import compose, config_dir, translated
from tinylora_rl.settings.evaluation import read_evaluation
from tinylora_rl.settings.experiment import read

RECIPES = ("arithmetic_cpu", "gsm8k_qwen7b_u13", "math_qwen7b")  # of all: tests/unit/recipes
MODELS = sorted(path.stem for path in (config_dir() / "model").glob("*.yaml"))
ON_CPU = ("device=cpu", "model=tiny")


@pytest.fixture
def composed():
    def with_overrides(*overrides: str):
        config = compose("train", overrides)
        OmegaConf.resolve(config)
        return config

    return with_overrides


def num_parameters(config, num_modules: int) -> int:
    adapter = TinyLoraConfig.from_dict(OmegaConf.to_container(config.adapter))
    return adapter.num_parameters(num_modules=num_modules)


@pytest.mark.parametrize("overrides", [(), ON_CPU], ids=["as_is", "on_cpu"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_resolves(composed, recipe, overrides):
    config = composed(f"+recipe={recipe}", *overrides)
    rollout = config.actor_rollout_ref.rollout
    assert config.data.name == recipe.partition("_")[0]
    assert rollout.max_model_len == config.data.max_prompt_length + config.data.max_response_length
    assert config.actor_rollout_ref.actor.optim.weight_decay == 0
    assert config.algorithm.rollout_correction.rollout_is == "token"
    assert config.trainer.device == ("cpu" if overrides or recipe.endswith("_cpu") else "cuda")
    assert config.actor_rollout_ref.model.lora.tinylora.adapter == config.adapter
    assert config.actor_rollout_ref.model.lora_rank == 0


@pytest.mark.parametrize("model", MODELS)
def test_every_model_resolves_with_the_gsm8k_recipe(composed, model):
    config = composed("+recipe=gsm8k_qwen7b_u13", f"model={model}")
    assert config.actor_rollout_ref.model.path


def test_recipes_train_what_their_names_say(composed):
    assert num_parameters(composed("+recipe=gsm8k_qwen7b_u13"), 196) == 13
    tied = composed("+recipe=gsm8k_qwen7b_u1_tie16")
    assert (tied.adapter.u, tied.adapter.n_tie) == (1, 16)
    assert num_parameters(tied, 196) == 13
    assert num_parameters(composed("+recipe=arithmetic_cpu"), 21) == 13


def test_the_gsm8k_recipe_states_the_papers_setting(composed):
    config = composed("+recipe=gsm8k_qwen7b_u13")
    assert config.trainer.total_epochs == 3
    assert config.data.train_batch_size == 64
    assert config.actor_rollout_ref.rollout.n == 4
    assert config.data.max_response_length == 4096
    assert config.actor_rollout_ref.actor.use_kl_loss is False
    assert config.adapter.r == 2
    assert config.trainer.n_gpus_per_node == 8
    assert (
        composed("+recipe=gsm8k_qwen7b_u13", "trainer.n_gpus_per_node=1").trainer.n_gpus_per_node
        == 1
    )


def test_overrides_reach_verl(composed):
    config = composed(
        "+recipe=gsm8k_qwen7b_u13",
        "data.path=/rows",
        "adapter.u=4",
        "adapter.n_tie=49",
        "sync.deadline_s=7",
    )
    assert config.data.path == "/rows"
    assert config.actor_rollout_ref.model.lora.tinylora.adapter.u == 4
    assert config.actor_rollout_ref.model.lora.tinylora.sync.deadline_s == 7


def test_cfg_job_prints_the_resolved_configuration_from_any_folder(tmp_path):
    printed = subprocess.run(
        [
            sys.executable,
            "-m",
            "tinylora_rl.train",
            "+recipe=gsm8k_qwen7b_u13",
            "--cfg",
            "job",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    config = OmegaConf.create(printed)
    assert config.trainer.experiment_name == "gsm8k_qwen7b_u13"
    assert Path(config.run.dir).parent == tmp_path / "runs" / "gsm8k_qwen7b_u13"
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_imports_no_torch():
    rooms = "tinylora_rl, tinylora_rl.rewards, tinylora_rl.tasks, tinylora_rl.train"
    code = f"import sys, {rooms}; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_peers_train_with_verls_engine_and_our_sync(composed, adapter):
    config = composed("+recipe=arithmetic_cpu", f"adapter={adapter}")
    model = config.actor_rollout_ref.model
    assert model.model_type == "language_model"
    assert model.lora_rank == (1 if adapter == "lora" else 0)
    assert bool(model.lora.merge) is (adapter == "lora")
    assert config.actor_rollout_ref.rollout.name == "vllm_tinylora"
    assert read(config).method.label == adapter


def test_lora_xs_is_the_basis(composed):
    config = composed("+recipe=arithmetic_cpu", "adapter=lora_xs", "adapter.u=4", "adapter.n_tie=7")
    adapter = read(config).method.config
    assert (adapter.projection, adapter.u, adapter.n_tie) == ("basis", 4, 7)


@pytest.mark.parametrize("overrides", [[], ["model=qwen2.5_7b", "device=cuda"]], ids=str)
def test_the_evaluation_composes(overrides):
    evaluation = read_evaluation(compose("evaluate", overrides))
    assert set(evaluation.measure.judges) <= set(JUDGES)
    assert evaluation.engine.options["max_num_seqs"] > 0
    assert evaluation.engine.device == ("cuda" if overrides else "cpu")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("platform=cpu", "device=cpu"),
        ("engine=cuda", "device=cuda"),
        ("engine.options.max_num_seqs=4", "device.engine.options.max_num_seqs=4"),
        ("+engine.env.X=1", "+device.engine.env.X=1"),
        (
            "reward.custom_reward_function.reward_kwargs.deadline_s=3",
            "grading.deadline_s=3",
        ),
        ("adapter=tinylora_u13", "adapter=tinylora"),
    ],
)
def test_an_older_spelling_is_accepted_with_a_hint(old, new):
    current, [hint] = translated([old, "seed=1"])
    assert current == [new, "seed=1"]
    assert hint == f"{old}: is now spelled {new}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sync.mode=shared"], "sync.mode='shared': choose from merged, vector, factors"),
        (["sync=factors", "sync.rounding=stochastic"], "sync.rounding='stochastic': "),
        (["sync=vector", "sync.sleep_level=2"], "sync.sleep_level=2: drops the base weights"),
        (["sync=vector", "adapter=lora"], "sync.mode=vector: only a TinyLoRA adapter"),
        (
            ["sync.rounding=stochastic", "actor_rollout_ref.rollout.dtype=float16"],
            "set actor_rollout_ref.rollout.dtype=bfloat16",
        ),
        (
            [
                "adapter=lora",
                "sync.rounding=stochastic",
                "actor_rollout_ref.rollout.dtype=bfloat16",
            ],
            "sync.rounding=stochastic: verl merges and rounds",
        ),
        (
            ["actor_rollout_ref.rollout.quantization=fp8"],
            "rollout.quantization=fp8: what quantised weights hold cannot be proved",
        ),
        (
            ["actor_rollout_ref.rollout.load_format=dummy"],
            "rollout.load_format=dummy: a sync brings only what training changed",
        ),
        (["sync.canary_max_diff=0"], "sync.canary_max_diff=0: use a positive number of nats"),
        (
            ["placement=separate", "sync=merged"],
            "sync.mode=merged: whole weights do not travel by checkpoint_engine.backend=tinylora",
        ),
    ],
)
def test_a_sync_that_cannot_work_is_refused_at_the_start(composed, overrides, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read(composed("+recipe=arithmetic_cpu", *overrides))


def test_every_way_of_sync_passes(composed):
    for overrides in (
        ["sync=vector"],
        ["sync=factors"],
        ["sync.sleep_level=2", "actor_rollout_ref.rollout.load_format=dummy"],
        ["placement=separate"],
        ["placement=separate", "sync=factors"],
    ):
        read(composed("+recipe=arithmetic_cpu", *overrides))
