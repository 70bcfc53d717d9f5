"""Data sets and prompts as rows of verl's format. Imports no torch, `datasets` only for the hub."""

from tinylora_rl.tasks import benchmarks, gsm8k, math_dataset
from tinylora_rl.tasks.dataset import DataSet, Row
from tinylora_rl.tasks.errors import DataError
from tinylora_rl.tasks.parquet import write_parquet
from tinylora_rl.tasks.prompts import TEMPLATES, Template, template_named, usual_template

__all__ = [
    "TEMPLATES",
    "DataError",
    "DataSet",
    "Row",
    "Template",
    "benchmarks",
    "gsm8k",
    "math_dataset",
]
__all__ += ["template_named", "usual_template", "write_parquet"]
