"""Which runs make one row."""

from tests.unit.studies.made import make_run
from tinylora_rl.studies.records import read_run
from tinylora_rl.studies.variants import variants_of


def runs_of(tmp_path, *settings):
    return [
        read_run(make_run(tmp_path / str(number), **each)) for number, each in enumerate(settings)
    ]


def test_rates_and_seeds_are_within_a_variant(tmp_path):
    runs = runs_of(tmp_path, {}, {"seed": 1}, {"learning_rate": 1e-4}, {"num_steps": 12})
    (variant,) = variants_of(runs)
    assert (variant.algorithm, variant.label, variant.num_parameters) == (
        "GRPO",
        "TinyLoRA u=13 n_tie=all",
        13,
    )
    assert len(variant.runs) == 4


def test_methods_sizes_and_ties_are_variants(tmp_path):
    tied = {"r": 2, "u": 1, "n_tie": 2, "tie_mode": "structured"}
    xs = {"r": 2, "u": 4, "n_tie": 1, "projection": "basis"}
    runs = runs_of(
        tmp_path, {"adapter": {}}, {"verb": "sft"}, {}, {"adapter": tied}, {"adapter": xs}
    )
    assert [(variant.algorithm, variant.label) for variant in variants_of(runs)] == [
        ("GRPO", "TinyLoRA u=1 n_tie=2 structured"),
        ("GRPO", "TinyLoRA u=13 n_tie=all"),
        ("GRPO", "LoRA-XS n_tie=1"),
        ("GRPO", "full fine-tuning"),
        ("SFT", "TinyLoRA u=13 n_tie=all"),
    ]


def test_any_other_setting_makes_variants_named_after_it(tmp_path):
    def correction(value):
        return {"settings": {"algorithm": {"rollout_is": value, "noise_seed": value}}}

    runs = runs_of(tmp_path, correction("token"), correction("none"), {"num_steps": 9})
    labels = {
        variant.label.removeprefix("TinyLoRA u=13 n_tie=all ") for variant in variants_of(runs)
    }
    assert labels == {
        "rollout_is=token total_training_steps=12",
        "rollout_is=none total_training_steps=12",
        "total_training_steps=9",
    }


def test_a_key_that_is_null_is_as_one_that_is_not_there(tmp_path):
    runs = runs_of(tmp_path, {"settings": {"algorithm": {"new_key": None}}}, {"seed": 1})
    assert len(variants_of(runs)) == 1


def test_a_run_of_an_earlier_version_is_compared_by_what_it_trained(tmp_path):
    earlier = {"command": None, "verb": "train", "served_model": "/there/base_model"}
    later = {"method": "tinylora", "plugins": [], "device": {"name": "cpu"}}
    later |= {"served_model": "/here/base_model", "grading": {"num_workers": 2}}
    runs = runs_of(tmp_path, {"settings": earlier}, {"settings": later})
    assert [run.command for run in runs] == ["train", "train"]
    assert len(variants_of(runs)) == 1
