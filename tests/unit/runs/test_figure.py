"""The figure of a run, looked at before it is written."""

from tinylora_rl.runs import figure
from tinylora_rl.runs.directory import MetricsFile


def test_panels_ticks_and_legends(tmp_path, monkeypatch):
    metrics = MetricsFile(tmp_path / "metrics.jsonl")
    metrics.log({"val-core/arithmetic/acc/mean@2": 0.5}, 0)
    for step in (1, 2, 3):
        metrics.log(
            {
                "critic/score/mean": 0.3 * step,
                "response_length/mean": 20,
                "response_length/min": 10,
                "response_length/max": 32,
                "response_length/clip_ratio": 0.1,
                "group/zero_std_frac": 0.2,
            },
            step,
        )
    drawn = []
    monkeypatch.setattr("matplotlib.pyplot.close", drawn.append)
    assert figure.draw_reward(tmp_path / "metrics.jsonl", tmp_path / "reward.png", "a run")
    (canvas,) = drawn
    shown = {axes.get_ylabel(): axes for axes in canvas.axes}
    assert list(shown) == ["reward, accuracy", "response length, tokens", "share"]
    for axes in shown.values():
        legend = axes.get_legend().get_window_extent()
        assert legend.y0 >= axes.get_window_extent().y1  # above the curves, not on them
        assert all(tick == round(tick) for tick in axes.get_xticks())
    assert len(shown["share"].lines) == 2
    assert len(shown["reward, accuracy"].lines) == 2
