"""Loaded through verl's own `model.external_lib`: the gradient of the second update is NaN."""

from typing import Any

from tinylora_rl.verl_plugin.engine import TinyLoraEngine

optimizer_step = TinyLoraEngine.optimizer_step


def with_nan(engine: TinyLoraEngine) -> Any:
    if engine.lr_scheduler.last_epoch == 1 and engine.adapter.v.grad is not None:
        engine.adapter.v.grad[0, 5] = float("nan")
    return optimizer_step(engine)


TinyLoraEngine.optimizer_step = with_nan
