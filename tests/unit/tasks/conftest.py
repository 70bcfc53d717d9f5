from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data(real_gsm8k) -> Path:
    """The folder with the real gsm8k/ and eval/; skips where it is not to be had."""
    folder = real_gsm8k.parent
    if not (folder / "eval").is_dir():
        pytest.skip(
            f"no evaluation sets in {folder}: set TINYLORA_DATA to a folder with eval/math500.jsonl"
        )
    return folder


@pytest.fixture
def hub_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of `datasets`, which is returned."""
    datasets = pytest.importorskip("datasets")
    cache = tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    monkeypatch.setattr(datasets.config, "DOWNLOADED_DATASETS_PATH", cache / "downloads")
    return cache
