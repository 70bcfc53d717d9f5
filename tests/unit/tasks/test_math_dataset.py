import json

import pytest

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks import TEMPLATES, math_dataset, write_parquet
from tinylora_rl.tasks.math_dataset import Math


def record(question, gold):
    return {
        "question": question,
        "gt_answer": gold,
        "prompt": [{"role": "user", "content": f"<|im_start|>user\n{question}"}],
        "reward_model": {"style": "rule", "ground_truth": gold},
    }


RECORDS = [record("1+1?", "2"), record("Without gold?", ""), record("Half?", r"\frac{1}{2}")]


@pytest.fixture(params=["train.parquet", "train.jsonl"])
def folder(request, tmp_path):
    file = tmp_path / math_dataset.HARDEST / request.param
    if file.suffix == ".parquet":
        write_parquet(RECORDS, file)
    else:
        file.parent.mkdir()
        file.write_text("\n".join(json.dumps(values) for values in RECORDS))
    return tmp_path


def test_rows_with_a_gold_are_taken_with_our_prompt(folder):
    rows = Math(path=folder, check=False).rows("train")
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["2", r"\frac{1}{2}"]
    assert [row["extra_info"]["index"] for row in rows] == [0, 2]
    assert rows[1]["prompt"] == TEMPLATES["boxed"]("Half?")
    assert rows[0]["data_source"] == "hkust-nlp/SimpleRL-Zoo-Data"
    assert rows[0]["extra_info"]["split"] == "simplelr_qwen_level3to5"


def test_the_number_of_rows_is_checked(folder):
    with pytest.raises(ConfigError, match=r"found 3 rows.*published are 8523 rows, digest unknown"):
        Math(path=folder).rows("train")


def test_splits_are_the_hubs_folders(tmp_path):
    assert set(math_dataset.SPLITS) == {
        f"simplelr_{prompt}_{levels}"
        for prompt in ("abel", "qwen")
        for levels in ("gsm8k_level1", "level1to4", "level3to5")
    }
    assert (
        math_dataset.SPLITS[math_dataset.HARDEST].origin.data_files
        == f"{math_dataset.HARDEST}/train.parquet"
    )
    with pytest.raises(
        ConfigError, match=r"data\.split=train: no such split; choose from simplelr_"
    ):
        Math(path=tmp_path, split="train")
    with pytest.raises(
        ConfigError, match=r"no simplelr_qwen_level3to5/train\.parquet or .*jsonl in"
    ):
        Math(path=tmp_path).rows("train")


def test_a_gold_that_is_not_there(tmp_path):
    write_parquet([{"question": "q", "reward_model": {"style": "rule"}}], tmp_path / "a.parquet")
    (tmp_path / math_dataset.HARDEST).mkdir()
    (tmp_path / "a.parquet").rename(tmp_path / math_dataset.HARDEST / "train.parquet")
    with pytest.raises(ConfigError, match="row 0: reward_model: no column 'ground_truth'"):
        Math(path=tmp_path, check=False).rows("train")
