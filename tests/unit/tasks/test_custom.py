"""A user's own data set, from files as a user has them."""

import json

import pytest

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks import TEMPLATES, make_task, row_gold, write_parquet
from tinylora_rl.tasks.prepare import run_rows, validation_rows
from tinylora_rl.tasks.records import LocalPath

RECORDS = [{"q": f"What is {n}+{n}?", "a": 2 * n, "why": f"{n}+{n}={2 * n}"} for n in range(20)]


def write(file, records=RECORDS):
    file.parent.mkdir(exist_ok=True)
    if file.suffix == ".parquet":
        return str(write_parquet(records, file))
    file.write_text("\n".join(json.dumps(record) for record in records))
    return str(file)


def custom(path=None, **options):
    return make_task("custom", {"path": path, "question": "q", "answer": "a", **options})


def golds(rows):
    return [row_gold(row).answer for row in rows]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_file_is_trained_on_but_for_its_last_rows(tmp_path, suffix):
    path = write(tmp_path / f"mine{suffix}")
    task = custom(path, test_rows=4)
    train, test = task.rows("train"), task.rows("test")
    assert golds(train) == [str(2 * n) for n in range(16)]
    assert golds(test) == ["32", "34", "36", "38"]
    assert (task.num_rows("train"), task.num_rows("test")) == (16, 4)
    assert task.sources("test") == (LocalPath(tmp_path / f"mine{suffix}"),)
    assert task.remarks() == [
        f"data.path={path}: no test data given; the last 4 of 20 rows are held out and not trained "
        "on (data.test_rows)"
    ]
    assert train[1] == {
        "data_source": "custom",
        "prompt": [{"role": "user", "content": "What is 1+1?"}],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": "2"},
        "extra_info": {
            "split": "train",
            "index": 1,
            "question": "What is 1+1?",
            "answer": "2",
            "tolerance": None,
            "unordered": False,
        },
    }


def test_a_tenth_is_held_out_by_default(tmp_path):
    assert len(custom(write(tmp_path / "mine.jsonl")).rows("test")) == 2
    many = [{"q": f"{n}?", "a": n} for n in range(3000)]
    task = custom(write(tmp_path / "many.jsonl", many))
    assert (len(task.rows("train")), len(task.rows("test"))) == (3000 - 256, 256)
    assert len(task.rows("train", 5)) == 5


def test_a_folder_has_a_file_for_each_split(tmp_path):
    write(tmp_path / "train.jsonl", RECORDS[:15])
    write(tmp_path / "test.parquet", RECORDS[15:18])
    write(tmp_path / "dev.jsonl", RECORDS[18:])
    task = custom(str(tmp_path))
    assert (len(task.rows("train")), golds(task.rows("test"))) == (15, ["30", "32", "34"])
    assert golds(custom(str(tmp_path), test_split="dev").rows("test")) == ["36", "38"]
    assert golds(custom(str(tmp_path), split="dev").rows("train")) == ["36", "38"]
    assert task.remarks() == []
    with pytest.raises(ConfigError, match=r"data\.path=.*: no x\.jsonl or x\.parquet in that fold"):
        custom(str(tmp_path), split="x").rows("train")


def test_an_evaluation_needs_the_held_out_file_alone(tmp_path):
    path = write(tmp_path / "exam.jsonl", RECORDS[:3])
    task = custom(test_path=path)
    assert golds(task.rows("test")) == ["0", "2", "4"]
    with pytest.raises(ConfigError, match=r"data\.path=null: give a \.jsonl or \.parquet file"):
        task.rows("train")


@pytest.mark.parametrize("options", [{"test_path": "SAME"}, {"test_split": "train"}])
def test_training_rows_are_never_held_out_in_silence(tmp_path, options):
    write(tmp_path / "train.jsonl")
    same = {
        key: value.replace("SAME", str(tmp_path / "train.jsonl")) for key, value in options.items()
    }
    with pytest.raises(ConfigError, match="would be trained on and held out"):
        custom(str(tmp_path), **same).rows("train")


def test_questions_in_both_are_counted(tmp_path):
    train = write(tmp_path / "train.jsonl")
    again = [{"q": " What is  3+3? ", "a": 6}, {"q": "New?", "a": 1}]
    task = custom(train, test_path=write(tmp_path / "mine.jsonl", again))
    rows = run_rows(task)
    assert (len(rows.train), len(rows.held_out)) == (20, 2)
    [remark] = rows.remarks
    assert remark.startswith("data.name=custom: 1 of 2 held-out questions are trained on, too")


def test_numbers_keep_all_their_digits(tmp_path):
    lines = ["72", "27.0", "0.10", "3.14159265358979323846", "1e3", "-5", '"1/2"', '"$1,200$"']
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(f'{{"q": "q{n}", "a": {a}}}' for n, a in enumerate([*lines, "0"])))
    expected = ["72", "27", "0.1", "3.14159265358979323846", "1000", "-5", "1/2", "$1,200$"]
    assert golds(custom(str(file), test_rows=1).rows("train")) == expected


def test_worked_answers_are_read_and_imitated(tmp_path):
    records = [
        {"q": "q1", "a": "It is 1,200.\n#### 1,200", "w": "so 1200"},
        {"q": "q2", "a": r"Thus $x = \boxed{\frac{1}{2}}$.", "w": 5},
        {"q": "q3", "a": "7", "w": "x"},
    ]
    path = write(tmp_path / "mine.jsonl", [dict(record, w=str(record["w"])) for record in records])
    rows = custom(path, test_rows=1).rows("train")
    assert golds(rows) == ["1,200", r"\frac{1}{2}"]
    assert [row["extra_info"]["answer"] for row in rows] == [r["a"] for r in records[:2]]
    worked = custom(path, test_rows=1, worked="w").rows("train")
    assert [row["extra_info"]["answer"] for row in worked] == ["so 1200", "5"]


def test_the_judge_is_the_prompts(tmp_path):
    assert (custom().judge, custom().headline) == ("flexible", "flexible")
    boxed = custom(template="boxed")
    assert (boxed.judge, boxed.headline, boxed.prompt_name) == ("boxed", "boxed_symbolic", "boxed")
    assert custom(template="boxed", judge="flexible").headline == "flexible"
    path = write(tmp_path / "mine.jsonl", [{"q": "Capital of France?", "a": "Paris"}] * 2)
    assert golds(custom(path, template="boxed").rows("train")) == ["Paris"]
    with pytest.raises(ConfigError, match=r"line 1: data\.judge=flexible cannot read .* 'Paris'"):
        custom(path).rows("train")


def test_prompts_come_from_a_file(tmp_path):
    path = write(tmp_path / "mine.jsonl", [{"q": r"\frac{1}{2}?", "a": 1}] * 2)
    text = tmp_path / "ask.txt"
    text.write_text("Answer {in one word}.\n{question}\nThink first.\n")
    task = custom(path, prompt=str(text))
    content = "Answer {in one word}.\n\\frac{1}{2}?\nThink first."
    assert task.rows("train")[0]["prompt"] == [{"role": "user", "content": content}]
    assert task.prompt_name == "ask.txt"
    chat = tmp_path / "ask.json"
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "{question}!"},
    ]
    chat.write_text(json.dumps(messages))
    assert custom(path, prompt=str(chat)).rows("train")[0]["prompt"] == [
        messages[0],
        {"role": "user", "content": r"\frac{1}{2}?!"},
    ]
    named = custom(path, template="natural").rows("train")[0]["prompt"]
    assert named == TEMPLATES["natural"](r"\frac{1}{2}?")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ask.txt", "Answer.", r"has \{question\} 0 times; put it where"),
        ("ask.txt", "{question} {question}", r"has \{question\} 2 times"),
        ("ask.json", '[{"role": "user"}]', "not a JSON list of messages"),
        ("ask.json", "{question}", "not a JSON list of messages"),
        ("none.txt", None, "not readable"),
    ],
)
def test_prompt_files_that_ask_nothing(tmp_path, name, content, message):
    path = write(tmp_path / "mine.jsonl")
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError, match=rf"^data\.prompt=.*{name}: {message}"):
        custom(path, prompt=str(tmp_path / name)).rows("train")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"q": "q"}, r"data\.answer=a: no such column in .*line 2; choose from q$"),
        ({"question": "q", "a": 1}, r"data\.question=q: no such column .*choose from question, a"),
        ({"q": " ", "a": 1}, r"line 2: q=' ' is empty"),
        ({"q": None, "a": 1}, r"line 2: q=None is empty"),
        ({"q": 5, "a": 1}, r"line 2: q=5 is not text; fix"),
        ({"q": "q", "a": ""}, r"line 2: a='' is empty"),
        ({"q": "q", "a": True}, r"line 2: a=True is not text and no finite number"),
        ({"q": "q", "a": float("nan")}, r"line 2: a=nan is not text and no finite number"),
        ({"q": "q", "a": [1]}, r"line 2: a=\[1\] is not text and no finite number"),
        ({"q": "q", "a": "#### "}, r"line 2: data\.judge=flexible cannot read the answer ''"),
    ],
)
def test_rows_that_cannot_be_asked(tmp_path, record, message):
    path = write(tmp_path / "mine.jsonl", [RECORDS[0], record, RECORDS[1]])
    with pytest.raises(ConfigError, match=message) as error:
        custom(path).rows("train")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "/nowhere/mine.jsonl"}, r"data\.path=/nowhere/mine\.jsonl: no such file or fol"),
        ({"path": "mine"}, r"data\.path=mine: no such file or folder, and not the id of a hub"),
        ({"path": "FOLDER/mine.csv"}, r"mine\.csv: not a \.jsonl or \.parquet file; convert it"),
        ({"path": "FOLDER/empty.jsonl"}, r"data\.path=.*: no rows in"),
        ({"path": "FOLDER/mine.jsonl", "test_rows": 20}, r"data\.test_rows=20: .* has 20 rows"),
        ({"test_rows": 0}, r"data\.test_rows=0: use a whole number of at least 1, or null"),
        ({"judge": "best"}, r"data\.judge=best: choose from strict"),
        ({"template": "x"}, r"data\.template=x: choose from gsm8k_hash"),
        ({"template": "boxed", "prompt": "p.txt"}, r"data\.prompt=p\.txt: data\.template=boxed is"),
        ({"path": "a/b", "revision": "main"}, r"data\.revision=main: give a commit of 40 digits"),
    ],
)
def test_wrong_values(tmp_path, options, message):
    write(tmp_path / "mine.jsonl")
    write(tmp_path / "empty.jsonl", [])
    (tmp_path / "mine.csv").write_text("q,a\n")
    given = {
        key: value.replace("FOLDER", str(tmp_path)) if isinstance(value, str) else value
        for key, value in options.items()
    }
    with pytest.raises(ConfigError, match=message) as error:
        custom(**given).rows("train")
    assert "\n" not in str(error.value)


def test_a_hub_data_set_that_cannot_be_had(hub_cache, monkeypatch):
    monkeypatch.setattr("datasets.load_dataset", _no_network)
    task = custom("me/mine", revision="0" * 40)
    assert (task.num_rows("train"), task.sources("train")[0].url[:4]) == (None, "http")
    with pytest.raises(
        ConfigError,
        match=r"^data\.path=me/mine \(me/mine of the .*0{40}\): not l"
        r"oaded \(ConnectionError: no route .*point data\.path at a f",
    ) as error:
        task.rows("train")
    assert "\n" not in str(error.value)


def test_a_hub_data_set_holds_out_a_split_or_its_last_rows(hub_cache, monkeypatch):
    splits = {"train": RECORDS[:10], "test": RECORDS[10:13]}
    asked = []

    def load(repo, *, revision, split, name):
        asked.append((repo, revision, split, name))
        return splits[split]

    monkeypatch.setattr("datasets.load_dataset", load)
    task = custom("me/mine", subset="main", test_split="test")
    assert (len(task.rows("train")), golds(task.rows("test"))) == (10, ["20", "22", "24"])
    assert asked == [("me/mine", None, split, "main") for split in ("train", "test")]
    assert golds(custom("me/mine", subset="main", test_rows=2).rows("test")) == ["16", "18"]
    columns = custom("me/mine", subset="main", question="ask")
    with pytest.raises(
        ConfigError, match=r"data\.question=ask: no such column in me/mine of .*q, a"
    ):
        columns.rows("train")


def _no_network(repo, *, revision, split, **_):
    assert (repo, revision, split) == ("me/mine", "0" * 40, "train")
    raise ConnectionError("no route\nto host")


def test_rows_of_all_kinds_share_a_file(tmp_path):
    task = custom(write(tmp_path / "mine.jsonl"))
    arithmetic = make_task("arithmetic", {"test_rows": 3})
    train, test, _ = run_rows(task, [arithmetic], limit=2)
    assert [row["data_source"] for row in test] == ["custom"] * 2 + ["arithmetic"] * 2
    assert [row["extra_info"]["judge"] for row in test] == ["flexible"] * 2 + ["strict"] * 2
    rows = validation_rows(test, samples=2, greedy=True)
    assert len(rows) == 8
    assert write_parquet(train, tmp_path / "a.parquet")
    assert write_parquet(rows, tmp_path / "b.parquet")
