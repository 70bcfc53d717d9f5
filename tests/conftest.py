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


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also what CI has no time for")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips slow tests without `--slow`: a faster one covers the same."""
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: run pytest --slow"))
