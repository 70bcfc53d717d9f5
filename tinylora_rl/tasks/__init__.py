"""Tasks: the questions that a run asks, with prompt, gold answer and judge. Imports no torch.

Ask what a run would train on and measure:

    from tinylora_rl.tasks import make_task, row_gold

    task = make_task("arithmetic", {"train_rows": 64})
    row = task.rows("train")[0]
    print(row["prompt"][-1]["content"], row_gold(row).answer, task.judge)

Add a task of your own; `data.name=parity` finds it once its file is listed under `plugins`:

    from dataclasses import dataclass
    from tinylora_rl.tasks import Task, make_row, register_task

    @register_task
    @dataclass(frozen=True, kw_only=True)
    class Parity(Task):
        name = "parity"
        judge = "flexible"

        def rows(self, split, limit=None):
            numbers = range(0, 512) if split == "train" else range(512, 576)
            rows = [
                make_row(self.name, split, n, question=f"{n} modulo 2?", gold=str(n % 2))
                for n in numbers
            ]
            return rows[:limit]
"""

from tinylora_rl.tasks import arithmetic, benchmarks, custom, gsm8k, math_dataset
from tinylora_rl.tasks.prepare import (
    RunRows,
    benchmark_tasks,
    run_rows,
    validation_rows,
    write_parquet,
)
from tinylora_rl.tasks.prompts import TEMPLATES, Template, template_named
from tinylora_rl.tasks.records import HubFiles, LocalPath, Source, WebFile
from tinylora_rl.tasks.row import ExtraInfo, Message, Row, ask, make_row, row_gold
from tinylora_rl.tasks.task import (
    TASKS,
    MeanTokens,
    Split,
    Task,
    make_task,
    register_task,
    task_names,
)

__all__ = ["TASKS", "TEMPLATES", "ExtraInfo", "HubFiles", "LocalPath", "MeanTokens", "Message"]
__all__ += ["Row", "RunRows", "Source", "Split", "Task", "Template", "WebFile", "arithmetic", "ask"]
__all__ += ["benchmark_tasks", "benchmarks", "custom", "gsm8k", "make_row", "make_task"]
__all__ += ["math_dataset", "register_task", "row_gold", "run_rows", "task_names"]
__all__ += ["template_named", "validation_rows", "write_parquet"]
