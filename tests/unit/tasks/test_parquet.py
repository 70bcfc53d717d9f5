import os

import pyarrow.parquet as pq
import pytest

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks import write_parquet
from tinylora_rl.tasks.prompts import TEMPLATES

ROWS = [
    {
        "data_source": "openai/gsm8k",
        "prompt": TEMPLATES["boxed"](question),
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": gold},
        "extra_info": {"split": "train", "index": index, "question": question, "answer": gold},
    }
    for index, (question, gold) in enumerate([("1+1?", "2"), ("£2 \u2212 £7?", "-5")])
]


def test_rows_come_back(tmp_path):
    path = write_parquet(ROWS, tmp_path / "new" / "train.parquet")
    assert pq.read_table(path).to_pylist() == ROWS
    assert os.listdir(path.parent) == ["train.parquet"]


def test_datasets_reads_what_verl_reads(tmp_path):
    datasets = pytest.importorskip("datasets")
    path = write_parquet(ROWS, tmp_path / "train.parquet")
    dataset = datasets.load_dataset(
        "parquet", data_files=str(path), cache_dir=str(tmp_path / "cache")
    )
    assert dataset["train"].to_list() == ROWS


def test_a_tolerance_that_no_row_has_is_a_float(tmp_path):
    datasets = pytest.importorskip("datasets")
    loaded = []
    for name, tolerance in (("without", None), ("with", 0.1)):
        rows = [{"extra_info": {**row["extra_info"], "tolerance": tolerance}} for row in ROWS]
        path = write_parquet(rows, tmp_path / f"{name}.parquet")
        loaded.append(
            datasets.load_dataset(
                "parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
            )
        )
    joined = datasets.concatenate_datasets(loaded)
    assert [row["extra_info"]["tolerance"] for row in joined] == [None, None, 0.1, 0.1]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_parquet(ROWS[:1], tmp_path / "train.parquet")

    def crash(table, file):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", crash)
    with pytest.raises(OSError, match="disk full"):
        write_parquet(ROWS, path)
    assert pq.read_table(path).to_pylist() == ROWS[:1]
    assert os.listdir(tmp_path) == ["train.parquet"]


def test_wrong_arguments(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.parquet"):
        write_parquet(ROWS, tmp_path / "train.jsonl")
    with pytest.raises(ConfigError, match="no rows to write"):
        write_parquet([], tmp_path / "train.parquet")
