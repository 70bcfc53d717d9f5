"""What is trained on: the rollout's prompt, the worked answer, the end of the turn."""

import dataclasses

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from tinylora_rl.errors import ConfigError
from tinylora_rl.supervised.data import prepare_data, prompt_ids, worked_answer
from tinylora_rl.supervised.trainer_config import TokenDataset
from tinylora_rl.tasks.arithmetic import base_model_dir

SMALL = ("+recipe=arithmetic_cpu", "data.train_rows=64", "data.test_rows=8")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(base_model_dir())


def test_a_sequence_is_prompt_answer_and_end(make, tokenizer):
    run = make("sft", *SMALL)
    prepared = prepare_data(run)
    assert (prepared.num_train, prepared.num_val) == (64, 8)
    assert (prepared.num_wrong, prepared.num_long) == (0, 0)
    rows = pq.read_table(run.batch.train_file).to_pylist()
    dataset = TokenDataset(str(run.batch.train_file))
    assert len(dataset) == len(rows) == 64
    for row, item in zip(rows, (dataset[index] for index in range(64)), strict=True):
        num_prompt = int((item["loss_mask"] == 0).sum())
        assert tokenizer.decode(item["input_ids"][:num_prompt]) == row["prompt"]
        assert row["prompt"].endswith("<|im_start|>assistant\n")
        answer = item["input_ids"][num_prompt:]
        assert tokenizer.decode(answer[:-1]) == row["target"]
        assert int(answer[-1]) == tokenizer.eos_token_id
        assert row["target"].splitlines()[-1].startswith("#### ")
        assert torch.equal(item["loss_mask"], item["loss_mask"].sort().values)  # zeros, then ones
        assert torch.equal(item["position_ids"], torch.arange(len(item["input_ids"])))


def test_the_prompt_is_the_rollouts(make, tokenizer):
    run = make("sft", *SMALL)
    prepared = prepare_data(run)
    row = prepared.held_out[0]
    expected = tokenizer.apply_chat_template(
        row["prompt"], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert prompt_ids(run, row) == list(expected)
    run = make("sft", *SMALL, f"task.max_prompt_tokens={len(expected) - 1}")
    assert prompt_ids(run, row) is None


def test_training_and_held_out_rows_are_apart_and_follow_the_seed(make, tokenizer):
    first = prepare_data(run := make("sft", *SMALL))
    targets = {row["prompt"] for row in pq.read_table(run.batch.train_file).to_pylist()}
    held_out = {row["prompt"] for row in pq.read_table(run.batch.validation_file).to_pylist()}
    assert not targets & held_out
    second = prepare_data(run := make("sft", *SMALL, "seed=1"))
    assert {r["prompt"] for r in pq.read_table(run.batch.train_file).to_pylist()} != targets
    assert second.held_out == first.held_out  # whatever a run trains on


def test_what_does_not_fit_is_left_out_and_counted(make, tokenizer):
    run = make("sft", *SMALL)
    prepare_data(run)
    lengths = sorted(len(r["target_ids"]) for r in pq.read_table(run.batch.train_file).to_pylist())
    run = make("sft", *SMALL, f"task.max_response_tokens={lengths[31]}")
    fitting = sum(length <= lengths[31] for length in lengths)
    prepared = prepare_data(run)
    assert (prepared.num_train, prepared.num_long) == (fitting, 64 - fitting)
    run = make("sft", *SMALL, f"task.max_response_tokens={lengths[0] - 1}")
    with pytest.raises(ConfigError, match=r"sft\.batch_size=16: only 0 sequences fit"):
        prepare_data(run)


def test_a_data_set_without_worked_answers_is_refused(make, tokenizer):
    run = make("sft", *SMALL)
    boxed = dataclasses.replace(run.grading, judge="boxed")  # finds no answer in "#### 17"
    run = dataclasses.replace(run, grading=boxed)
    with pytest.raises(ConfigError, match="0 of 64 worked answers are right under"):
        prepare_data(run)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("He has <<48/2=24>>24 left.\n#### 24", "He has 24 left.\n#### 24"),
        ("a < b and <<1+1=2>>2, <<2*2=4>>4\n#### 4", "a < b and 2, 4\n#### 4"),
    ],
)
def test_calculator_marks(answer, expected):
    row = {"extra_info": {"answer": answer}}
    assert worked_answer(row, keep_calculator_marks=False) == expected
    assert worked_answer(row, keep_calculator_marks=True) == answer


def test_every_worked_answer_of_gsm8k_is_right(make, tokenizer, real_gsm8k):
    run = make(
        "sft",
        "+recipe=gsm8k_qwen7b",
        "device=cpu",
        "model=tiny",
        f"data.path={real_gsm8k}",
        "data.max_prompt_length=100000",
        "data.max_response_length=100000",
    )
    prepared = prepare_data(run)
    assert (prepared.num_train, prepared.num_wrong) == (7473, 0)
    assert prepared.num_val == len(prepared.held_out) == 64  # device=cpu
