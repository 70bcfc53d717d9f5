"""What a user of `evaluate` gets wrong first: one line, before anything is downloaded."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig, inject
from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.evaluation.plan import policies_of
from tinylora_rl.evaluation.run import check_engine
from tinylora_rl.settings.compose import compose
from tinylora_rl.settings.evaluation import Evaluation, read_evaluation
from tinylora_rl.tasks.arithmetic import base_model_dir


def evaluation(*overrides: str) -> Evaluation:
    return read_evaluation(compose("evaluate", overrides))


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
        ("evaluate.judge=best", "evaluate.judge=best"),
        ("evaluate.weights=lora", "evaluate.weights=lora: choose from factors, merged"),
        ("evaluate.rounding=up", "evaluate.rounding=up"),
        ("evaluate.confidence=95", "evaluate.confidence=95: use a number below 1"),
        ("grading.num_workers=0", "grading.num_workers=0"),
        ("grading.deadline_s=0", "grading.deadline_s=0"),
    ],
)
def test_bad_settings_are_refused_by_name(override, message):
    with pytest.raises(ConfigError) as error:
        evaluation(override)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_names_may_stand_without_brackets():
    given = evaluation("benchmarks=math500", "evaluate.judges=strict")
    assert (list(given.benchmarks), given.measure.judges) == (["math500"], ("strict",))


def test_adapters_come_as_null_a_folder_a_list_or_by_name():
    for override, expected in (
        ("adapters=null", []),
        ("adapters=/a", [(None, "/a")]),
        ("adapters=[/a,/b]", [(None, "/a"), (None, "/b")]),
        ("adapters={first: /a, second: /b}", [("first", "/a"), ("second", "/b")]),
    ):
        assert list(evaluation(override).adapters) == expected
    with pytest.raises(ConfigError, match="adapters=3: give folders"):
        evaluation("adapters=[3]")


def test_the_base_comes_first_and_a_run_directory_names_its_adapter(saved):
    policies = policies_of([(None, str(saved.parent))])
    assert [policy.name for policy in policies] == ["base", "run"]
    assert policies[1].directory == saved


@pytest.mark.parametrize("name", ["..", "a/b", "a|b", "-x", "base"])
def test_names_that_are_no_folder_of_their_own_are_refused(saved, name):
    with pytest.raises(ConfigError, match="adapters: "):
        policies_of([(name, str(saved))])


def test_two_adapters_of_one_name_are_refused_with_the_fix(saved):
    with pytest.raises(ConfigError, match="two policies would be called 'run'; name them"):
        policies_of([(None, str(saved)), (None, str(saved))])


def test_a_damaged_adapter_is_refused(saved, tmp_path):
    (tmp_path / "manifest.json").write_bytes((saved / "manifest.json").read_bytes())
    with pytest.raises(ConfigError, match="adapters: "):
        policies_of([(None, str(tmp_path))])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_engine_without_gpus_is_the_machines_fault():
    check_engine(evaluation().engine)
    with pytest.raises(MachineError, match="device=cuda: 0 GPUs are visible"):
        check_engine(evaluation("device=cuda").engine)
