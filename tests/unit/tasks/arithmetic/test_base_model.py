import json

import pytest
import torch
from embedded_model.probe import probe
from transformers import AutoTokenizer, GenerationConfig, Qwen2ForCausalLM, Qwen2Tokenizer

from tinylora_rl.tasks.arithmetic import Problem, base_model_dir, sample_problems

NUM_PROBLEMS = 256


@pytest.fixture(scope="module")
def model() -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM.from_pretrained(base_model_dir(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> Qwen2Tokenizer:
    return AutoTokenizer.from_pretrained(base_model_dir())


@pytest.fixture(scope="module")
def problems() -> list[Problem]:
    return sample_problems("test", NUM_PROBLEMS, seed=11)


def test_it_is_small(model: Qwen2ForCausalLM) -> None:
    assert model.num_parameters() < 1_000_000
    assert (base_model_dir() / "model.safetensors").stat().st_size < 2_000_000


def test_its_configuration_suits_verl_and_vllm(
    model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer
) -> None:
    config = json.loads((base_model_dir() / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]
    assert config["vocab_size"] == len(tokenizer)  # verl masks a tail of the vocabulary otherwise
    assert config["max_position_embeddings"] == 2048
    generation = GenerationConfig.from_pretrained(base_model_dir())
    assert config["eos_token_id"] == generation.eos_token_id == tokenizer.eos_token_id
    assert config["pad_token_id"] == generation.pad_token_id == tokenizer.pad_token_id


def test_stored_weights_are_exact_in_fp32(model: Qwen2ForCausalLM) -> None:
    for name, weight in model.named_parameters():
        assert torch.equal(weight, weight.bfloat16().float()), name


def test_it_adds_when_it_works_and_mostly_does_not_when_terse(
    model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, problems: list[Problem]
) -> None:
    """Bounds are 4 standard errors of 256 samples (0.125) around the stated range or wider."""
    measured = probe(model, tokenizer, problems, temperature=1.0, seed=0)
    assert 0.38 < measured["accuracy"] < 0.70
    assert 0.35 < measured["terse_share"] < 0.65
    assert measured["accuracy_of_worked"] > 0.9
    assert measured["accuracy_of_terse"] < 0.35
    assert 14 < measured["mean_tokens"] < 24


def test_greedily_it_is_no_better_than_when_sampled(
    model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, problems: list[Problem]
) -> None:
    """So greedy accuracy cannot fall in training: there is nothing to lose."""
    assert probe(model, tokenizer, problems, temperature=0.0, seed=0)["accuracy"] < 0.6


def test_a_probe_depends_on_its_seed_alone(
    model: Qwen2ForCausalLM, tokenizer: Qwen2Tokenizer, problems: list[Problem]
) -> None:
    before = torch.random.get_rng_state()
    first, again = (
        probe(model, tokenizer, problems[:8], temperature=1.0, seed=7) for _ in range(2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first == again
