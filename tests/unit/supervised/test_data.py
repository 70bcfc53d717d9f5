"""What is trained on: the rollout's prompt, the worked answer, the end of the turn."""

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer

from tinylora_rl.errors import ConfigError
from tinylora_rl.supervised.data import prepare_supervised, prompt_ids, worked_answer
from tinylora_rl.supervised.token_dataset import TokenDataset
from tinylora_rl.tasks.arithmetic import base_model_dir

SMALL = ("+recipe=arithmetic_cpu", "data.train_rows=64", "data.test_rows=8")


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(base_model_dir())


def test_a_sequence_is_prompt_answer_and_end(composed, tokenizer):
    config = composed("sft", *SMALL)
    prepared = prepare_supervised(config, tokenizer)
    assert (prepared.num_train, prepared.num_val) == (64, 8)
    assert (prepared.num_wrong, prepared.num_long) == (0, 0)
    rows = pq.read_table(config.data.train_files).to_pylist()
    dataset = TokenDataset(config.data.train_files)
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


def test_the_prompt_is_the_rollouts(composed, tokenizer):
    config = composed("sft", *SMALL)
    prepared = prepare_supervised(config, tokenizer)
    row = prepared.held_out[0]
    expected = tokenizer.apply_chat_template(
        row["prompt"], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert prompt_ids(config, tokenizer, row) == list(expected)
    config.data.max_prompt_length = len(expected) - 1
    assert prompt_ids(config, tokenizer, row) is None


def test_training_and_held_out_rows_are_apart_and_follow_the_seed(composed, tokenizer):
    first = prepare_supervised(config := composed("sft", *SMALL), tokenizer)
    targets = {row["prompt"] for row in pq.read_table(config.data.train_files).to_pylist()}
    held_out = {row["prompt"] for row in pq.read_table(config.data.val_files).to_pylist()}
    assert not targets & held_out
    second = prepare_supervised(config := composed("sft", *SMALL, "seed=1"), tokenizer)
    assert {r["prompt"] for r in pq.read_table(config.data.train_files).to_pylist()} != targets
    assert second.held_out == first.held_out  # whatever a run trains on


def test_what_does_not_fit_is_left_out_and_counted(composed, tokenizer):
    config = composed("sft", *SMALL)
    prepare_supervised(config, tokenizer)
    lengths = sorted(
        len(r["target_ids"]) for r in pq.read_table(config.data.train_files).to_pylist()
    )
    config.data.max_response_length = lengths[31]
    fitting = sum(length <= lengths[31] for length in lengths)
    prepared = prepare_supervised(config, tokenizer)
    assert (prepared.num_train, prepared.num_long) == (fitting, 64 - fitting)
    config.data.max_response_length = lengths[0] - 1
    with pytest.raises(ConfigError, match=r"sft\.batch_size=16: only 0 sequences fit"):
        prepare_supervised(config, tokenizer)


def test_a_data_set_without_worked_answers_is_refused(composed, tokenizer):
    config = composed("sft", *SMALL)
    config.task.judge = "boxed"  # which finds no answer in "#### 17"
    with pytest.raises(ConfigError, match="0 of 64 worked answers are right under"):
        prepare_supervised(config, tokenizer)


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


def test_every_worked_answer_of_gsm8k_is_right(composed, tokenizer, real_gsm8k):
    config = composed(
        "sft", "+recipe=gsm8k_qwen7b", "platform=cpu", "model=tiny", f"data.path={real_gsm8k}"
    )
    config.data.max_prompt_length = config.data.max_response_length = 100_000
    prepared = prepare_supervised(config, tokenizer)
    assert (prepared.num_train, prepared.num_wrong) == (7473, 0)
    assert prepared.num_val == len(prepared.held_out) == 64  # platform=cpu
