"""From runs to rows."""

import csv
import io

import pytest

from tests.unit.studies.made import make_run
from tinylora_rl.errors import ConfigError
from tinylora_rl.studies.records import read_run
from tinylora_rl.studies.study import build_study
from tinylora_rl.studies.tables import report_markdown, to_csv, to_latex

SMALL = {"r": 2, "u": 1, "n_tie": "all", "tie_mode": "tiled"}


@pytest.fixture
def runs(tmp_path):
    grid = [
        ("train", None, 5e-3, 0.90),
        ("train", None, 1e-3, 0.40),
        ("train", SMALL, 5e-3, 0.50),
        ("sft", None, 5e-3, 0.30),
        ("sft", {}, 5e-3, 0.88),
    ]
    return [
        read_run(
            make_run(
                tmp_path / f"{number}_{seed}",
                verb=verb,
                adapter=adapter,
                learning_rate=rate,
                seed=seed,
                accuracy=accuracy + 0.02 * seed,
            ),
            f"{number}_{seed}",
        )
        for number, (verb, adapter, rate, accuracy) in enumerate(grid)
        for seed in (0, 1)
    ]


def test_rows_are_means_at_the_chosen_rate(runs):
    study = build_study(runs)
    rows = [
        (
            r.variant.algorithm,
            r.variant.num_parameters,
            r.choice.learning_rate,
            round(r.accuracy.value, 6),
        )
        for r in study.results
    ]
    assert rows == [
        ("GRPO", 1, 5e-3, 0.51),
        ("GRPO", 13, 5e-3, 0.91),
        ("SFT", 13, 5e-3, 0.31),
        ("SFT", 627_712, 5e-3, 0.89),
    ]
    assert study.untrained["base_model"].value == pytest.approx(0.1)
    assert study.gain(study.results[1]) == pytest.approx(0.81)
    assert study.notes == (
        "90% of the largest gain over the untrained base_model (+81.0 points) is reached by GRPO "
        "with 13 numbers and by SFT with 627,712 numbers of those tried.",
    )


def test_another_accuracy_may_count(runs):
    study = build_study(runs, held_out="sampled")
    assert study.results[1].accuracy.value == pytest.approx(0.9 * 0.91)
    with pytest.raises(ConfigError, match="held_out=pass: not measured; there are sampled, greedy"):
        build_study(runs, held_out="pass")


def test_select_on_reports_the_other_seeds(runs):
    study = build_study(runs, select_on=["0"])
    assert all(result.choice.reported_on == ("1",) for result in study.results)
    assert study.results[1].accuracy.value == pytest.approx(0.92)
    assert "The seeds shown are others." in report_markdown(study)


def test_runs_that_did_not_end_well_are_left_out_and_take_their_rate_along(runs, tmp_path):
    best = make_run(tmp_path / "x", learning_rate=1e-2, accuracy=1.0, seed=0)
    lost = make_run(tmp_path / "y", learning_rate=1e-2, accuracy=1.0, seed=1, state="failed")
    more = [*runs, read_run(best), read_run(lost)]
    study = build_study(more)
    assert study.results[1].choice.learning_rate == 5e-3
    assert study.left_out == {"y": "failed at step 12"}
    assert "no candidate, for want of seeds that ended well: 0.01" in report_markdown(study)
    assert build_study(more, unfinished=True).results[1].choice.learning_rate == 1e-2


def test_a_repeated_point_counts_once(runs, tmp_path):
    again = read_run(make_run(tmp_path / "again", accuracy=0.5, seed=0))
    study = build_study([*runs, again])
    assert study.left_out == {"0_0": "repeated by again"}
    assert study.results[1].accuracy.value == pytest.approx((0.5 + 0.92) / 2)


def test_mixed_tasks_are_refused(runs, tmp_path):
    other = read_run(make_run(tmp_path / "gsm8k", task="gsm8k"))
    with pytest.raises(ConfigError, match=r"2 tasks, arithmetic \(strict\); gsm8k \(strict\)"):
        build_study([*runs, other])


def test_the_papers_number_stands_beside_ours(tmp_path):
    adapter = {"r": 2, "u": 13, "n_tie": "all", "tie_mode": "tiled"}
    run = make_run(tmp_path / "a", task="gsm8k", model="Qwen/Qwen2.5-7B-Instruct", adapter=adapter)
    text = report_markdown(build_study([read_run(run)]))
    assert "91.8 (table 2), ~90.7 (figure 1)" in text
    assert "read off a figure" in text


def test_three_formats_say_the_same(runs):
    study = build_study(runs)
    markdown, latex = report_markdown(study), to_latex(study)
    rows = list(csv.DictReader(io.StringIO(to_csv(study))))
    assert len(rows) == len(study.results) == 4
    for row in rows:
        value = f"{100 * float(row['accuracy']):.1f} ["
        assert value in markdown
        assert value in latex
        assert row["interval"] == "t"
    assert rows[1]["rates_tried"] == "0.001 0.005"
    assert rows[1]["edge"] == "high"
    assert "0.005§ of 2" in markdown
    assert r"0.005\S{} of 2" in latex
    assert r"n\_tie" in latex
    assert latex.count(r"\\") == 1 + 1 + 4  # header, untrained, results
