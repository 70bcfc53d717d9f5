import json
import os
import subprocess
import sys

import pytest

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks import TEMPLATES, gsm8k
from tinylora_rl.tasks.gsm8k import Gsm8k

RECORDS = [
    {
        "question": "Natalia sold clips to 48 of her friends in April, and then she sold half as"
        " many clips in May. How many clips did Natalia sell altogether in April and May?",
        "answer": "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\nNatalia sold 48+24 ="
        " <<48+24=72>>72 clips altogether in April and May.\n#### 72",
    },
    {"question": "A car for £1,200?", "answer": "It costs 1,200.\n#### 1,200"},
    {"question": "How cold is it?", "answer": "Below zero.\n#### -5\n"},
]
GOOD = json.dumps(RECORDS[0])


@pytest.fixture
def folder(tmp_path):
    lines = [json.dumps(record, ensure_ascii=False) for record in RECORDS]
    (tmp_path / "train.jsonl").write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    (tmp_path / "test.jsonl").write_text(lines[1], encoding="utf-8")
    return tmp_path


def test_rows_have_verls_format(folder):
    rows = Gsm8k(path=folder, check=False).rows("train")
    assert rows[0] == {
        "data_source": "openai/gsm8k",
        "prompt": TEMPLATES["gsm8k_hash"](RECORDS[0]["question"]),
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "72"},
        "extra_info": {
            "split": "train",
            "index": 0,
            **RECORDS[0],
            "tolerance": None,
            "unordered": False,
        },
    }
    assert [row["reward_model"]["ground_truth"] for row in rows] == ["72", "1200", "-5"]
    assert [row["extra_info"]["index"] for row in rows] == [0, 1, 2]


def test_split_and_template_are_taken(folder):
    (row,) = Gsm8k(path=str(folder), template="boxed", check=False).rows("test")
    assert row["prompt"] == TEMPLATES["boxed"](RECORDS[1]["question"])
    assert row["extra_info"]["split"] == "test"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"",
            r"no rows in train\.jsonl or gsm8k/train\.jsonl; point data\.path at a folder holding",
        ),
        (b"\n \n", r"no rows in train\.jsonl"),
        (None, r"no train\.jsonl or gsm8k/train\.jsonl in it; point data\.path"),
        (f"{GOOD}\n{{'a': 1}}".encode(), r"train\.jsonl line 2: not JSON .*; fix"),
        (f"{GOOD}\n\n{GOOD[:-9]}".encode(), r"train\.jsonl line 3: not JSON .*; fix"),
        (b'{"question": "\xff", "answer": "#### 1"}', r"line 1: not JSON .*; fix"),
        (b'{"question": "q"}', r"line 1: no column 'answer' \(found: question\); fix"),
        (b'{"answer": "#### 1"}', r"line 1: no column 'question' \(found: answer\)"),
        (b"[1, 2]", r"line 1: no column 'question' \(found: not an object\)"),
        (b'{"question": "q", "answer": 72}', r"line 1: answer=72 is not text; fix"),
        (b'{"question": "q", "answer": "72"}', r"line 1: the answer does not end in '#### N'; fix"),
        (b'{"question": "q", "answer": "#### 72 or so"}', r"does not end in '#### N'"),
        (b'{"question": "q", "answer": "#### "}', r"does not end in '#### N'"),
    ],
)
def test_malformed_files(tmp_path, content, message):
    if content is not None:
        (tmp_path / "train.jsonl").write_bytes(content)
    with pytest.raises(ConfigError, match=message) as error:
        Gsm8k(path=tmp_path).rows("train")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"data.path={tmp_path}: ")


def test_wrong_arguments(tmp_path):
    with pytest.raises(
        ConfigError, match=r"data\.path=.*nowhere: no such folder; point data\.path"
    ):
        Gsm8k(path=tmp_path / "nowhere").rows("train")
    with pytest.raises(
        ConfigError, match=r"data\.split=dev: no such split; choose from train, test"
    ):
        Gsm8k(path=tmp_path).rows("dev")
    with pytest.raises(ConfigError, match=r"data\.template=x"):
        Gsm8k(path=tmp_path, template="x")


def test_rows_that_are_not_gsm8ks_are_refused(folder):
    with pytest.raises(ConfigError, match=r"found 3 rows.*are 7473 rows.*data\.check=false"):
        Gsm8k(path=folder).rows("train")


def test_the_folder_may_hold_a_gsm8k_folder(folder, tmp_path):
    (tmp_path / "gsm8k").mkdir()
    (folder / "test.jsonl").rename(tmp_path / "gsm8k" / "test.jsonl")
    assert len(Gsm8k(path=tmp_path, check=False).rows("test")) == 1


def test_the_hub_is_asked_for_a_commit():
    for split, dataset in gsm8k.SPLITS.items():
        assert dataset.origin.repo == "openai/gsm8k"
        assert dataset.origin.config == "main"
        assert dataset.origin.split == split
        assert len(dataset.origin.revision) == 40


def test_importing_data_leaves_datasets_and_torch_alone():
    heavy = ["torch", "datasets", "verl", "transformers"]
    code = f"import sys, tinylora_rl.tasks; print([m for m in {heavy} if m in sys.modules])"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=env)
    assert out.stdout.strip() == b"[]"


@pytest.mark.parametrize(("split", "num_rows"), [("train", 7_473), ("test", 1_319)])
def test_real_rows(real_gsm8k, split, num_rows):
    rows = Gsm8k(path=real_gsm8k).rows(split)
    assert rows == Gsm8k(path=real_gsm8k.parent).rows(split)
    assert len(rows) == num_rows
    assert all(row["reward_model"]["ground_truth"].lstrip("-").isdigit() for row in rows)
