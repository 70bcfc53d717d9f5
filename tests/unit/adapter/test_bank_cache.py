"""The bank on disk: one builds, others wait, damage is never used, a killed writer is no loss."""

import logging
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from tests.unit.adapter.checkpoints import write_sharded
from tests.unit.adapter.models import small_model
from tests.unit.adapter.test_bank import assert_close
from tinylora_rl.adapter import TinyLoraConfig, build_bank, find_targets
from tinylora_rl.adapter import bank_cache as bank_cache_module
from tinylora_rl.adapter.bank_cache import FACTORS, MANIFEST, default_cache_dir, load_or_build
from tinylora_rl.adapter.weights import CheckpointWeights

CONFIG = TinyLoraConfig(u=2, n_tie=4)
MODEL = small_model(dtype=torch.bfloat16)
TARGETS = find_targets(MODEL, CONFIG)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "banks")


class Cache:
    """One cache folder, and how many modules each call decomposed."""

    def __init__(self, folder):
        self.folder = folder

    def load(self, source=MODEL, targets=TARGETS, config=CONFIG):
        calls = []
        bank = load_or_build(
            source,
            targets,
            config,
            cache_dir=self.folder,
            progress=lambda done, total: calls.append(done),
        )
        return bank, len(calls)

    def entries(self):
        return sorted(manifest.parent for manifest in self.folder.glob(f"*/{MANIFEST}"))


def test_the_second_start_decomposes_nothing_and_gets_the_same_bits(cache):
    built, num_built = cache.load()
    loaded, num_loaded = cache.load()
    assert (num_built, num_loaded) == (14, 0)
    assert_close(built, build_bank(MODEL, TARGETS, CONFIG), atol=0)
    assert_close(loaded, built, atol=0)


def test_a_checkpoint_and_its_model_share_an_entry(cache, tmp_path):
    cache.load()
    weights = CheckpointWeights(write_sharded(tmp_path / "base", dict(MODEL.state_dict())))
    assert cache.load(source=weights)[1] == 0


@pytest.mark.parametrize(
    "change",
    [{"u": 1}, {"seed": 7}, {"n_tie": 1}, {"svd_split": "sqrt"}, {"projection": "rademacher"}],
    ids=str,
)
def test_what_is_drawn_after_loading_shares_an_entry(cache, change):
    cache.load()
    config = TinyLoraConfig(**{"u": 2, "n_tie": 4, **change})
    bank, num_built = cache.load(config=config)
    assert num_built == 0
    assert_close(bank, build_bank(MODEL, TARGETS, config), atol=0)


def test_rank_modules_base_and_algorithm_do_not(cache, monkeypatch):
    cache.load()
    assert cache.load(config=TinyLoraConfig(r=3, u=2, n_tie=4))[1] == 14
    some = TinyLoraConfig(target_modules=("q_proj", "up_proj"))
    assert cache.load(config=some, targets=find_targets(MODEL, some))[1] == 4
    assert cache.load(source=small_model(seed=1))[1] == 14
    monkeypatch.setattr("tinylora_rl.adapter.svd.ALGORITHM", "another")
    assert cache.load()[1] == 14
    assert len(cache.entries()) == 5


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "bit": lambda entry: flip_a_bit(entry / FACTORS),
    "cut": lambda entry: os.truncate(entry / FACTORS, 1000),
    "empty": lambda entry: os.truncate(entry / FACTORS, 0),
    "gone": lambda entry: (entry / FACTORS).unlink(),
    "manifest cut": lambda entry: os.truncate(entry / MANIFEST, 20),
    "manifest of another": lambda entry: (entry / MANIFEST).write_text('{"r": 3}'),
    "manifest no object": lambda entry: (entry / MANIFEST).write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_entry_is_rebuilt_with_a_warning(cache, damage, caplog):
    built, _ = cache.load()
    damage(cache.entries()[0])
    with caplog.at_level(logging.WARNING):
        rebuilt, num_built = cache.load()
    assert num_built == 14
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert "damaged" in caplog.text
    assert_close(rebuilt, built, atol=0)
    assert cache.load()[1] == 0


def test_a_killed_writers_leftovers_are_neither_used_nor_kept(cache):
    cache.load()
    entry = cache.entries()[0]
    (entry / MANIFEST).unlink()
    (entry / f".{FACTORS}.123.partial").write_bytes(b"half")
    assert cache.load()[1] == 14
    assert sorted(path.name for path in entry.iterdir()) == [FACTORS, MANIFEST]


def test_a_full_disk_does_not_cost_the_bank(cache, caplog, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bank_cache_module, "write_bytes", full)
    bank, num_built = cache.load()
    assert num_built == 14
    assert_close(bank, build_bank(MODEL, TARGETS, CONFIG), atol=0)
    assert "not stored: [Errno 28] No space left on device" in caplog.text
    assert cache.entries() == []


def test_a_folder_that_cannot_be_written_costs_time_and_not_the_bank(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    bank = load_or_build(MODEL, TARGETS, CONFIG, cache_dir=tmp_path / "file")
    assert_close(bank, build_bank(MODEL, TARGETS, CONFIG), atol=0)
    assert "file: cannot be written" in caplog.text


def test_an_error_while_building_leaves_no_entry(cache):
    model = small_model()
    model.get_submodule(TARGETS[5].name).weight.data.zero_()
    with pytest.raises(ValueError, match="the base weight is zero"):
        cache.load(source=model)
    assert cache.entries() == []


def test_the_default_folder_follows_the_xdg_standard(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_dir() == tmp_path / ".cache/tinylora_rl/banks"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert default_cache_dir() == tmp_path / "elsewhere/tinylora_rl/banks"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_cache_dir() == tmp_path / ".cache/tinylora_rl/banks"


CHILD = """
import sys, time
from tinylora_rl.adapter import TinyLoraConfig
from tinylora_rl.adapter.bank import fingerprint
from tinylora_rl.adapter.bank_cache import load_or_build
from tinylora_rl.adapter.targets import targets_of
from tinylora_rl.adapter.weights import CheckpointWeights

directory, cache_dir, pause_s = sys.argv[1:]
config = TinyLoraConfig(u=2, n_tie=4)
weights = CheckpointWeights(directory)
num_built = 0

def progress(done, total):
    global num_built
    num_built = done
    print("module", done, flush=True)
    time.sleep(float(pause_s))

targets = targets_of(weights.names(), config)
bank = load_or_build(weights, targets, config, cache_dir=cache_dir, progress=progress)
print("built", num_built, sum(fingerprint(bank)), flush=True)
"""


@pytest.fixture
def start(cache, tmp_path):
    """Starts a process that loads or builds the same bank; it sleeps after each module."""
    directory = write_sharded(tmp_path / "base", dict(MODEL.state_dict()))

    def start(pause_s):
        command = [sys.executable, "-c", CHILD, str(directory), str(cache.folder), str(pause_s)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return start


def test_one_process_builds_while_the_other_waits(start):
    children = [start(pause_s=0.05) for _ in range(2)]
    results = [child.communicate(timeout=120)[0].splitlines()[-1].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert sorted(result[1] for result in results) == ["0", "14"]
    assert results[0][2] == results[1][2]


def test_a_killed_builder_blocks_nobody(cache, start):
    child = start(pause_s=60)
    assert child.stdout.readline() == "module 1\n"  # it holds the lock
    child.send_signal(signal.SIGKILL)
    child.wait(timeout=30)
    child.stdout.close()
    started_s = time.monotonic()
    assert cache.load()[1] == 14
    assert time.monotonic() - started_s < 30
