"""Graded responses under the names that a validation of `train` writes."""

from pathlib import Path

from tinylora_rl.runs.directory import MetricsFile, held_out
from tinylora_rl.supervised.evaluation import held_out_metrics
from tinylora_rl.supervised.run import draw_loss, loss_lines


def item(index: int, sample: int, *, greedy: bool, strict: str, flexible: str) -> dict:
    return {
        "benchmark": "openai/gsm8k",
        "index": index,
        "greedy": greedy,
        "sample": sample,
        "response_tokens": 10 * (index + 1),
        "truncated": index == 1,
        "judged": {"strict": {"verdict": strict}, "flexible": {"verdict": flexible}},
    }


def test_keys_and_values():
    items = [
        item(0, 0, greedy=True, strict="right", flexible="right"),
        item(1, 0, greedy=True, strict="no_answer", flexible="right"),
        item(0, 0, greedy=False, strict="right", flexible="right"),
        item(0, 1, greedy=False, strict="wrong", flexible="wrong"),
        item(1, 0, greedy=False, strict="wrong", flexible="right"),
        item(1, 1, greedy=False, strict="timed_out", flexible="right"),
    ]
    metrics = held_out_metrics(items, {"openai/gsm8k": "strict"})
    assert metrics["val-core/openai/gsm8k_greedy/acc/mean@1"] == 0.5
    assert metrics["val-core/openai/gsm8k/acc/mean@2"] == 0.25
    assert metrics["val-aux/openai/gsm8k_greedy/flexible/mean@1"] == 1.0
    assert metrics["val-aux/openai/gsm8k/flexible/mean@2"] == 0.75
    assert metrics["val-aux/openai/gsm8k/response_tokens/mean@2"] == 15
    assert metrics["val-aux/openai/gsm8k/truncated/mean@2"] == 0.5
    assert held_out(metrics) == {"greedy": 0.5, "sampled": 0.25}
    assert sum(key.startswith("val-core/") for key in metrics) == 2


def test_the_summary_and_the_figure_need_an_update(tmp_path: Path):
    metrics, figure = tmp_path / "metrics.jsonl", tmp_path / "figure.png"
    assert loss_lines(metrics) == []
    assert not draw_loss(metrics, figure, title="run")
    file = MetricsFile(metrics)
    for step, loss in ((1, 2.0), (2, 1.0)):
        file.log({"train/loss": loss}, step)
    file.log({"val/loss": float("nan")}, 2)  # no batch of held-out rows
    assert draw_loss(metrics, figure, title="run")
    assert figure.stat().st_size > 5000
    (_, line) = loss_lines(metrics)
    assert line == "training loss     2.0000 -> 1.0000   (nats per token)"
