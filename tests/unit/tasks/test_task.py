"""Tasks by name, and a new one from a single file."""

import dataclasses
import re
import textwrap

import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from tinylora_rl import tasks
from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import JUDGES, compute_score
from tinylora_rl.tasks import TASKS, Task, ask, make_task, register_task, row_gold, task_names
from tinylora_rl.tasks.arithmetic import base_model_dir
from tinylora_rl.tasks.prepare import benchmark_tasks, held_out_rows, run_rows, training_rows

TOY = """
from dataclasses import dataclass
from tinylora_rl.tasks import Task, make_row, register_task

@register_task
@dataclass(frozen=True, kw_only=True)
class Doubling(Task):
    name = "doubling"
    judge = "strict"
    factor: int = 2

    def rows(self, split, limit=None):
        numbers = range(8) if split == "train" else range(8, 12)
        rows = [
            make_row(self.name, split, n, question=f"{n}?", gold=str(self.factor * n))
            for n in numbers
        ]
        return rows[:limit]
"""


@pytest.fixture
def registry(monkeypatch):
    """The registry, restored afterwards."""
    for name in ("doubling", "parity"):
        monkeypatch.setitem(TASKS, name, Task)
        del TASKS[name]
    yield TASKS
    for name in ("doubling", "parity"):
        TASKS.pop(name, None)


def run_file(file):
    """Executes a file as an import does."""
    exec(compile(file.read_text(), str(file), "exec"), {"__name__": file.stem})


def test_a_toy_task_is_one_file(registry, tmp_path):
    (tmp_path / "toy.py").write_text(TOY)
    run_file(tmp_path / "toy.py")
    run_file(tmp_path / "toy.py")  # again, as in another process's second look
    toy = make_task("doubling", {"factor": 3, "path": None, "train_batch_size": 4})
    train, test, _ = run_rows(toy, benchmark_tasks(toy, ["arithmetic"]), least=8, limit=2)
    assert [row_gold(row).answer for row in train] == [str(3 * n) for n in range(8)]
    assert [row["data_source"] for row in test] == ["doubling"] * 2 + ["arithmetic"] * 2
    file = tasks.write_parquet(train, tmp_path / "rows.parquet")
    stored = pq.read_table(file).to_pylist()[1]
    score = compute_score(
        stored["data_source"],
        "#### 3",
        stored["reward_model"]["ground_truth"],
        {**stored["extra_info"], "judge": toy.judge},
    )
    assert score["score"] == 1.0
    assert (toy.headline, toy.num_rows("train"), toy.sources("train")) == ("strict", None, ())
    assert toy.mean_tokens.response > 0


def test_the_examples_of_the_front_door_run(registry, capsys):
    first, second = re.findall(r"\n\n((?:    .*\n|\n)+)", tasks.__doc__)
    exec(textwrap.dedent(first), {"__name__": "first"})
    assert re.fullmatch(r"What is .*\? \d+ strict\n", capsys.readouterr().out)
    exec(textwrap.dedent(second), {"__name__": "second"})
    parity = make_task("parity", {})
    assert row_gold(parity.rows("test", 1)[0]).answer == "0"
    assert len(parity.rows("train")) == 512


def test_a_name_belongs_to_one_class():
    with pytest.raises(ValueError, match="task name 'gsm8k': taken by Gsm8k"):
        register_task(type("Mine", (TASKS["gsm8k"],), {"name": "gsm8k"}))


def test_names_and_splits():
    assert [name for name in task_names("train") if name in ("gsm8k", "math500")] == ["gsm8k"]
    assert {"arithmetic", "custom", "gsm8k", "math", "math500"} <= set(task_names("test"))
    with pytest.raises(ConfigError, match=r"data\.name=math500: choose from arithmetic, custom, g"):
        make_task("math500", {}, split="train")
    with pytest.raises(ConfigError, match=r"benchmarks=gsm: choose from aime24"):
        make_task("gsm", {}, split="test", key="benchmarks")
    with pytest.raises(ConfigError, match=r"data\.split=train: no such split; choose from test"):
        make_task("math500", {}).rows("train")


@pytest.mark.parametrize("name", task_names())
def test_every_task_is_made_of_nothing_and_of_nulls(name):
    task = make_task(name, {})
    assert task == make_task(name, dict.fromkeys(field.name for field in dataclasses.fields(task)))
    assert task.judge in JUDGES
    assert task.headline in JUDGES
    assert len(task.mean_tokens) == 2


@pytest.mark.parametrize(
    ("name", "train", "test", "lengths"),
    [
        ("gsm8k", 7473, 1319, (110, 300)),
        ("math", 8523, 500, (120, 700)),
        ("arithmetic", 2048, 256, (16, 24)),
    ],
)
def test_what_plans_know_without_reading(name, train, test, lengths):
    task = make_task(name, {"path": "/nowhere"})
    assert (task.num_rows("train"), task.num_rows("test")) == (train, test)
    assert task.mean_tokens == lengths
    from_elsewhere = [source.url for source in task.sources("train")]
    assert from_elsewhere == ([] if name == "arithmetic" else [None])
    assert all(source.url.startswith("https:") for source in make_task(name, {}).sources("test"))


def test_evaluations_ask_for_as_many_generated_rows_as_they_like():
    arithmetic = make_task("arithmetic", {})
    assert len(arithmetic.rows("test", 300)) == 300
    assert arithmetic.rows("test", 10) == arithmetic.rows("test")[:10]
    assert make_task("arithmetic", {"seed": 1}).rows("test", 5) == arithmetic.rows("test", 5)
    assert make_task("arithmetic", {"seed": 1}).rows("train", 5) != arithmetic.rows("train", 5)
    for value in (-1, 3143, 1.5, True):
        with pytest.raises(ConfigError, match=rf"data\.test_rows={value}: use a whole number"):
            make_task("arithmetic", {"test_rows": value})


def test_what_prepares_a_run_refuses():
    task = make_task("arithmetic", {"train_rows": 8})
    with pytest.raises(
        ConfigError, match=r"8 training rows are fewer than one batch of task\.prom"
    ):
        training_rows(task, least=9)
    with pytest.raises(ConfigError, match="arithmetic stands there already; leave it out"):
        held_out_rows(task, [task])
    with pytest.raises(ConfigError, match=r"no rows to validate on; set task\.eval_rows to null"):
        held_out_rows(make_task("arithmetic", {"test_rows": 0}))
    with pytest.raises(ConfigError, match=r"task\.eval_benchmarks=aime25: choose from aime24"):
        benchmark_tasks(task, ["aime25"])
    with pytest.raises(ConfigError, match=r"task\.eval_benchmarks: data\.path=/nowhere: no such"):
        held_out_rows(task, benchmark_tasks(make_task("gsm8k", {"path": "/nowhere"}), ["aime24"]))
    [benchmark] = benchmark_tasks(make_task("custom", {"path": "mine.jsonl"}), ["gsm8k"])
    assert benchmark.path is None  # a user's own file is no folder of benchmarks


def test_rows_are_asked_in_the_models_own_format():
    tokenizer = AutoTokenizer.from_pretrained(base_model_dir())
    row = make_task("arithmetic", {}).rows("test", 1)[0]
    text = tokenizer.decode(ask(row, tokenizer))
    question = row["extra_info"]["question"]
    assert text == f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
