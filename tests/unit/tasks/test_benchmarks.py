import json

import pyarrow.parquet as pq
import pytest

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks import TEMPLATES, make_task, write_parquet
from tinylora_rl.tasks.benchmarks import BENCHMARKS
from tinylora_rl.tasks.gsm8k import SPLITS
from tinylora_rl.tasks.published import Example, digest_of

DATA_SETS = {"gsm8k": SPLITS["test"], **BENCHMARKS}

OLYMPIAD = {
    "question": "Which n?",
    "final_answer": ["$69$,$84$"],
    "is_multiple_answer": True,
    "error": None,
    "unit": None,
}
RECORDS = {
    "gsm8k": [({"question": "q", "answer": "It is 1,200.\n#### 1,200"}, "1200")],
    "math500": [({"problem": "q", "answer": r"\frac{1}{2}"}, r"\frac{1}{2}")],
    "minerva_math": [({"problem": "q", "solution": r"so \boxed{10^{3}} m"}, "10^{3}")],
    "olympiadbench": [
        (OLYMPIAD, "69,84"),
        ({**OLYMPIAD, "final_answer": ["$1$", "$2$"]}, "1, 2"),
    ],
    "aime24": [({"problem": "q", "answer": "025"}, "025")],
    "amc23": [({"question": "q", "answer": 27.0}, "27")],
    "gaokao2023en": [({"question": "q", "answer": "$x < 1$"}, "x < 1")],
    "college_math": [({"question": "q", "answer": "$x=1$ or $x=2$"}, "x=1 or x=2")],
}
NUM_ROWS = {
    "gsm8k": 1319,
    "math500": 500,
    "minerva_math": 272,
    "olympiadbench": 675,
    "aime24": 30,
    "amc23": 40,
    "gaokao2023en": 385,
    "college_math": 2818,
}


def rows_of(name, path, *, limit=None, **options):
    return make_task(name, {"path": path, **options}, split="test").rows("test", limit)


def write(folder, name, records):
    file = folder / DATA_SETS[name].files[0]
    file.write_text("\n".join(json.dumps(record) for record in records))
    return folder


@pytest.mark.parametrize("name", RECORDS)
def test_golds(tmp_path, name):
    folder = write(tmp_path, name, [record for record, _ in RECORDS[name]])
    rows = rows_of(name, folder, template="boxed", check=False)
    assert [row["reward_model"]["ground_truth"] for row in rows] == [
        gold for _, gold in RECORDS[name]
    ]
    assert all(row["data_source"] == DATA_SETS[name].data_source for row in rows)
    assert all(row["prompt"] == TEMPLATES["boxed"](row["extra_info"]["question"]) for row in rows)


def test_what_a_judge_needs_is_kept(tmp_path):
    records = [OLYMPIAD, {**OLYMPIAD, "is_multiple_answer": False, "error": "1e-1", "unit": "%"}]
    rows = rows_of("olympiadbench", write(tmp_path, "olympiadbench", records), check=False)
    judged = [{key: row["extra_info"][key] for key in ("tolerance", "unordered")} for row in rows]
    assert judged == [
        {"tolerance": None, "unordered": True},
        {"tolerance": 0.1, "unordered": False},
    ]


@pytest.mark.parametrize(
    ("name", "record", "message"),
    [
        ("amc23", {"question": "q", "answer": "27"}, "answer='27' is not a number"),
        ("amc23", {"question": "q", "answer": True}, "answer=True is not a number"),
        ("olympiadbench", {**OLYMPIAD, "final_answer": "1"}, "final_answer='1' is not a list"),
        ("olympiadbench", {**OLYMPIAD, "error": "0.01,0.1"}, "error='0.01,0.1' is not one posi"),
        ("minerva_math", {"problem": "q", "solution": "4"}, "no .boxed{} in the solution"),
    ],
)
def test_malformed_records(tmp_path, name, record, message):
    with pytest.raises(ConfigError, match=message) as error:
        rows_of(name, write(tmp_path, name, [record]), check=False)
    assert str(error.value).startswith(f"data.path={tmp_path}: {name}.jsonl line 1: ")


def test_wrong_arguments(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.name=aime25: choose from.*gsm8k, math, math500"):
        rows_of("aime25", tmp_path)
    with pytest.raises(
        ConfigError, match=r"no aime24\.jsonl or eval/aime24\.jsonl in it; .*https:"
    ):
        rows_of("aime24", tmp_path)
    with pytest.raises(ConfigError, match=r"data\.template=x"):
        rows_of("aime24", tmp_path, template="x")


def test_digest_sees_golds_and_order_but_not_white_space():
    first, second = (
        Example(question="a b", worked="", gold="1"),
        Example(question="c", worked="", gold="2"),
    )
    digest = digest_of([first, second])
    assert digest == digest_of([Example(question=" a\n b", worked="x", gold="1"), second])
    assert digest != digest_of([second, first])
    assert digest != digest_of([first])
    assert digest != digest_of([first, Example(question="c", worked="", gold="3")])


@pytest.mark.parametrize("name", NUM_ROWS)
def test_real_rows_are_the_published_ones(real_data, name):
    rows = rows_of(name, real_data)
    assert len(rows) == NUM_ROWS[name]
    assert rows_of(name, real_data, limit=3) == rows[:3]
    assert all(row["extra_info"]["question"].strip() for row in rows)
    without_gold = sum(not row["reward_model"]["ground_truth"] for row in rows)
    assert without_gold == (2 if name == "gaokao2023en" else 0)


def test_a_real_file_that_was_changed_is_refused(real_data, tmp_path):
    lines = (real_data / "eval" / "aime24.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "aime24.jsonl").write_text("\n".join([*lines[1:], lines[0]]), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"found 30 rows, digest .*published are 30 rows"):
        rows_of("aime24", tmp_path, limit=1)
    assert len(rows_of("aime24", tmp_path, check=False)) == 30


def test_all_real_rows_share_a_file(real_data, tmp_path):
    rows = [row for name in DATA_SETS for row in rows_of(name, real_data)]
    rows += make_task("gsm8k", {"path": real_data}).rows("train")
    assert len({tuple(row["extra_info"]) for row in rows}) == 1
    assert pq.read_table(write_parquet(rows, tmp_path / "all.parquet")).to_pylist() == rows


def test_the_real_tolerances(real_data):
    rows = rows_of("olympiadbench", real_data)
    information = [row["extra_info"] for row in rows]
    assert [info["tolerance"] for info in information if info["tolerance"] is not None] == [0.1]
    assert sum(info["unordered"] for info in information) == 94
