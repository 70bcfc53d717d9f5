"""`python -m tinylora_rl.report`, as a user types it."""

import json
import subprocess
import sys

import pytest

from tests.unit.studies.made import make_run
from tinylora_rl.report import main


@pytest.fixture
def sweep(tmp_path):
    for seed in (0, 1):
        for rate in (1e-3, 5e-3):
            make_run(
                tmp_path / "sweep" / f"lr={rate},seed={seed}",
                learning_rate=rate,
                seed=seed,
                accuracy=100 * rate + 0.01 * seed,
            )
    return tmp_path / "sweep"


def test_a_sweep_becomes_tables_figures_and_pages(sweep, tmp_path):
    out = tmp_path / "out"
    program = (
        "import sys; from tinylora_rl.report import main; code = main(sys.argv[1:]);"
        "assert not {'torch', 'verl', 'vllm', 'ray', 'wandb'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(sweep), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    row = next(line for line in done.stdout.splitlines() if line.startswith("| GRPO"))
    assert "| 13 | 52 B | 0.005§ of 2 | 0, 1 | 50.5 [44.1, 56.9] | +40.5 |" in row
    assert (out / "report.md").read_text() in done.stdout
    for name in ("results.csv", "results.tex", "page.html", "figures/size_sweep.svg"):
        assert str(out / name) in done.stdout or (out / name).is_file()
        assert (out / name).stat().st_size > 100
    assert len(list((out / "run_pages").glob("*.html"))) == 4


def test_evaluations_stand_beside_the_paper(tmp_path, capsys):
    judged = {
        "accuracy": {"value": 0.9, "low": 0.88, "high": 0.92, "method": "wilson"},
        "against_base": None,
    }
    entry = {"benchmark": "gsm8k", "greedy": True, "num_items": 1319}
    plan = {
        "model": "Qwen/Qwen2.5-7B-Instruct",
        "policies": [{"name": "base", "digest": ""}, {"name": "mine", "digest": "ab"}],
        "headline": {"gsm8k": "strict"},
    }
    scores = [
        {**entry, "policy": "base", "judges": {"strict": judged}},
        {
            **entry,
            "policy": "mine",
            "judges": {"strict": {**judged, "against_base": {"p_value": 0.01}}},
        },
    ]
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps(plan))
    results = {"plan": plan, "confidence": 0.95, "scores": scores}
    (folder / "results.json").write_text(json.dumps(results))
    assert main([str(folder), "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "| base | 0 | 90.0 [88.0, 92.0] | 90.0 |" in out
    assert "| mine | ? | 90.0 [88.0, 92.0] * | 90.0 |" in out
    assert "| paper | 13 | 91.8 | 50.1 |" in out
    (folder / "results.json").write_text(json.dumps({"plan": plan}))
    assert main([str(folder)]) == 2
    assert "not what an evaluation writes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--held-out", "pass"], "held_out=pass: not measured; there are sampled, greedy"),
        (["--select-on", "7"], "seeds=7: no run has one of them; there are 0,1"),
        (["--dashboard"], "nobody is logged in at W&B; run `wandb login`"),
    ],
)
def test_what_cannot_be_is_one_line(sweep, tmp_path, capsys, monkeypatch, extra, message):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert main([str(sweep), "--out", str(tmp_path / "out"), *extra]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_no_runs_and_mixed_tasks_end_with_2(sweep, tmp_path, capsys):
    assert main([str(tmp_path / "none")]) == 2
    assert "no such folder" in capsys.readouterr().err
    make_run(sweep / "gsm8k", task="gsm8k")
    assert main([str(sweep), "--out", str(tmp_path / "out")]) == 2
    assert "2 tasks" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
