import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_gsm8k() -> Path:
    """The folder with the real train.jsonl and test.jsonl; skips where it is not to be had."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TINYLORA_DATA", beside)) / "gsm8k"
    if not folder.is_dir():
        pytest.skip("no real GSM8K: set TINYLORA_DATA to a folder with gsm8k/train.jsonl")
    return folder
