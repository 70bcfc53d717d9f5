"""Data sets and prompts as rows of verl's format. Imports no torch, `datasets` only for the hub."""

from tinylora_rl.data import gsm8k
from tinylora_rl.data.errors import DataError
from tinylora_rl.data.parquet import write_parquet
from tinylora_rl.data.prompts import TEMPLATES, template_named

__all__ = ["TEMPLATES", "DataError", "gsm8k", "template_named", "write_parquet"]
