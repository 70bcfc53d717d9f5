"""Data sets and prompts as rows of verl's format. Imports no torch, `datasets` only for the hub."""

from tinylora_rl.data import benchmarks, gsm8k, math
from tinylora_rl.data.dataset import DataSet, Row
from tinylora_rl.data.errors import DataError
from tinylora_rl.data.parquet import write_parquet
from tinylora_rl.data.prompts import TEMPLATES, Template, template_named, usual_template

__all__ = ["TEMPLATES", "DataError", "DataSet", "Row", "Template", "benchmarks", "gsm8k", "math"]
__all__ += ["template_named", "usual_template", "write_parquet"]
