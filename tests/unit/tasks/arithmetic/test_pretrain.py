from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from embedded_model.completions import is_terse
from embedded_model.pretrain import (
    IGNORED,
    PretrainConfig,
    build_model,
    collate,
    examples,
    noisy_weights,
    pretrain,
)
from embedded_model.probe import encode_prompt
from transformers import AutoTokenizer, Qwen2ForCausalLM, Qwen2Tokenizer

from tinylora_rl.tasks.arithmetic import base_model_dir

SHORT = PretrainConfig(num_steps=3, warmup_steps=1, batch_size=4, num_probe_problems=4)


@pytest.fixture(scope="module")
def tokenizer() -> Qwen2Tokenizer:
    return AutoTokenizer.from_pretrained(base_model_dir())


def test_a_short_run_is_complete_and_repeatable(tmp_path: Path) -> None:
    for name in ("first", "second"):
        pretrain(SHORT, tmp_path / name)
    first, second = (
        Qwen2ForCausalLM.from_pretrained(tmp_path / name).state_dict()
        for name in ("first", "second")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)
    written = {path.name for path in (tmp_path / "first").iterdir()}
    assert written == {path.name for path in base_model_dir().iterdir()}
    with pytest.raises(ValueError, match="exists"):
        pretrain(SHORT, tmp_path / "first")


def test_another_seed_is_another_model(tokenizer: Qwen2Tokenizer) -> None:
    first, second = (build_model(replace(SHORT, seed=seed), tokenizer) for seed in (0, 1))
    assert not torch.equal(first.lm_head.weight, second.lm_head.weight)


def test_loss_is_on_the_completion_and_its_end_alone(tokenizer: Qwen2Tokenizer) -> None:
    batch = [("What is 1+2+3+4?", "#### 10"), ("What is 1+2-3+4?", "Hm\n1+2=3")]
    ids_BT, labels_BT = collate(tokenizer, batch)
    assert ids_BT.shape == labels_BT.shape
    for ids_T, labels_T, (question, completion) in zip(ids_BT, labels_BT, batch, strict=True):
        target = ids_T[labels_T != IGNORED]
        assert torch.equal(target, labels_T[labels_T != IGNORED])
        assert tokenizer.decode(target) == completion + "<|im_end|>"
        prompt = encode_prompt(tokenizer, question)
        assert ids_T[: len(prompt)].tolist() == prompt
        assert (labels_T[: len(prompt)] == IGNORED).all()


def test_guesses_come_in_the_last_part_only() -> None:
    config = replace(SHORT, num_steps=10, worked_only_share=0.5, batch_size=100)
    drawn = [completion for _, completion in islice(examples(config), 1000)]
    guesses = [is_terse(completion) and "=" not in completion for completion in drawn]
    assert not any(guesses[:500])
    assert any(guesses[500:])


def test_noise_is_gone_after_the_block(tokenizer: Qwen2Tokenizer) -> None:
    model = build_model(SHORT, tokenizer)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    with noisy_weights(model, 0.1, torch.Generator().manual_seed(0)):
        inside = model.model.layers[0].self_attn.q_proj.weight.detach().clone()
    difference = inside - before["model.layers.0.self_attn.q_proj.weight"]
    assert difference.std() / inside.std() == pytest.approx(0.1, rel=0.05)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
