"""Figures are drawn when the runs give them, and say what the study says."""

import pytest

from tests.unit.studies.made import make_run
from tinylora_rl.studies.figures import FIGURES, write_figures
from tinylora_rl.studies.records import read_run
from tinylora_rl.studies.size_figure import draw_size_sweep
from tinylora_rl.studies.study import build_study


def adapter(**fields):
    return {"r": 2, "u": 1, "n_tie": 1, "tie_mode": "tiled", **fields}


def study_of(tmp_path, adapters, **settings):
    return build_study(
        [
            read_run(
                make_run(
                    tmp_path / f"{number}_{rate}",
                    adapter=one,
                    learning_rate=rate,
                    accuracy=0.5 + 0.1 * number,
                    **settings,
                )
            )
            for number, one in enumerate(adapters)
            for rate in (1e-3, 1e-2)
        ]
    )


@pytest.mark.parametrize(
    ("adapters", "drawn"),
    [
        ([adapter(), adapter(u=4)], set()),
        ([adapter(r=1), adapter(r=2), adapter(r=4)], {"rank"}),
        ([adapter(), adapter(n_tie=8)], {"tying"}),
        ([adapter(), adapter(n_tie=8), adapter(r=4)], {"rank", "tying"}),
        ([adapter(r=1), adapter(r=4, n_tie=8)], set()),  # two things differ
    ],
)
def test_which_figures_there_are(tmp_path, adapters, drawn):
    study = study_of(tmp_path, adapters)
    always = {"size_sweep", "learning_rates", "training_curves"}
    found = {name for name, draw in FIGURES.items() if draw(study) is not None}
    assert found == always | drawn


def test_the_same_study_gives_the_same_bytes(tmp_path):
    study = study_of(tmp_path, [adapter()], verb="sft")
    first, second = (write_figures(study, tmp_path / name) for name in ("first", "second"))
    assert [path.name for path in first] == [
        f"{name}.{suffix}" for name in ("size_sweep", "learning_rates") for suffix in ("png", "svg")
    ]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_papers_points_are_beside_where_the_task_is_another(tmp_path):
    figure = draw_size_sweep(study_of(tmp_path / "own", [adapter(), {}]))
    ours, papers = (axes for axes in figure.axes if axes.get_xlabel() == "trained numbers")
    assert "arithmetic" in ours.get_title(loc="left") + ours.get_title()
    assert "Paper" in papers.get_title(loc="left") + papers.get_title()
    same = study_of(
        tmp_path / "same",
        [adapter(u=13, n_tie="all")],
        task="gsm8k",
        model="Qwen/Qwen2.5-7B-Instruct",
    )
    assert len(draw_size_sweep(same).axes) == 1
