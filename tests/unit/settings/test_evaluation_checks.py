"""What a user of `evaluate` gets wrong first: one line, before anything is downloaded."""

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from tinylora_rl.settings.evaluation_checks import check_engine, check_evaluation, named_adapters
from transformers import AutoModelForCausalLM

from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.evaluation.build_plan import policies_of
from tinylora_rl.settings.resolvers import config_dir, register_resolvers
from tinylora_rl.tasks.arithmetic import base_model_dir


@pytest.fixture
def composed():
    register_resolvers()

    def with_overrides(*overrides: str):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return compose("evaluate", overrides=["run.dir=/nowhere", *overrides])

    yield with_overrides
    GlobalHydra.instance().clear()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = AutoModelForCausalLM.from_pretrained(base_model_dir(), dtype=torch.bfloat16)
    adapter = inject(model, TinyLoraConfig())
    return artifact.save(adapter, tmp_path_factory.mktemp("saved") / "run" / "adapter")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("benchmarks=gsm", "benchmarks=gsm: choose from aime24, amc23, arithmetic"),
        ("benchmarks=[]", "name one or more"),
        ("benchmarks=[gsm8k,gsm8k]", "each once"),
        ("data.rows=0", "data.rows=0: use a whole number of at least 1"),
        ("data.rows=-1", "data.rows=-1"),
        ("data.template=box", "data.template=box: choose from"),
        ("evaluate.samples=abc", "evaluate.samples=abc: use a whole number"),
        ("evaluate.samples=1.5", "evaluate.samples=1.5"),
        ("evaluate.greedy=false", "evaluate.samples=0: nothing to draw"),
        ("evaluate.temperature=0", "evaluate.temperature=0: use a number above 0"),
        ("evaluate.top_p=2", "evaluate.top_p=2"),
        ("evaluate.judges=[strikt]", "evaluate.judges=strikt: choose from strict"),
        ("evaluate.judge=best", "evaluate.judges=best"),
        ("evaluate.weights=lora", "evaluate.weights=lora: choose from factors, merged"),
        ("evaluate.rounding=up", "evaluate.rounding=up"),
        ("evaluate.confidence=95", "evaluate.confidence=95: use a number below 1"),
        ("grading.num_workers=0", "grading.num_workers=0"),
        ("grading.deadline_s=0", "grading.deadline_s=0"),
    ],
)
def test_bad_settings_are_refused_by_name(composed, override, message):
    with pytest.raises(ConfigError) as error:
        check_evaluation(composed(override))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_names_may_stand_without_brackets(composed):
    config = composed("benchmarks=math500", "evaluate.judges=strict")
    check_evaluation(config)
    assert (list(config.benchmarks), list(config.evaluate.judges)) == (["math500"], ["strict"])


def test_adapters_come_as_null_a_folder_a_list_or_by_name(composed):
    for override, expected in (
        ("adapters=null", []),
        ("adapters=/a", [(None, "/a")]),
        ("adapters=[/a,/b]", [(None, "/a"), (None, "/b")]),
        ("adapters={first: /a, second: /b}", [("first", "/a"), ("second", "/b")]),
    ):
        assert list(named_adapters(composed(override).adapters)) == expected
    with pytest.raises(ConfigError, match="adapters=3: give folders"):
        list(named_adapters(composed("adapters=[3]").adapters))


def test_the_base_comes_first_and_a_run_directory_names_its_adapter(composed, saved):
    policies = policies_of(composed(f"adapters=[{saved.parent}]"))
    assert [policy.name for policy in policies] == ["base", "run"]
    assert policies[1].directory == saved


@pytest.mark.parametrize("name", ["..", "a/b", "a|b", "-x", "base"])
def test_names_that_are_no_folder_of_their_own_are_refused(composed, saved, name):
    config = composed()
    config.adapters = {name: str(saved)}
    with pytest.raises(ConfigError, match="adapters: "):
        policies_of(config)


def test_two_adapters_of_one_name_are_refused_with_the_mend(composed, saved):
    with pytest.raises(ConfigError, match="two policies would be called 'run'; name them"):
        policies_of(composed(f"adapters=[{saved},{saved}]"))


def test_a_damaged_adapter_is_refused(composed, saved, tmp_path):
    (tmp_path / "manifest.json").write_bytes((saved / "manifest.json").read_bytes())
    with pytest.raises(ConfigError, match="adapters: "):
        policies_of(composed(f"adapters=[{tmp_path}]"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_engine_without_gpus_is_the_machines_fault(composed):
    check_engine(composed().engine)
    with pytest.raises(MachineError, match="engine=cuda: 0 GPUs are visible"):
        check_engine(composed("engine=cuda").engine)
