"""Loaded through verl's own `model.external_lib`: the second update says so, and takes 10 s."""

import time
from typing import Any

from tinylora_rl.verl_plugin.engine import TinyLoraEngine

optimizer_step = TinyLoraEngine.optimizer_step


def slow(engine: TinyLoraEngine) -> Any:
    if engine.lr_scheduler.last_epoch == 1:
        print("the second update has its gradient", flush=True)
        time.sleep(10)
    return optimizer_step(engine)


TinyLoraEngine.optimizer_step = slow
