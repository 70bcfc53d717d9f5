"""Adapters come and go in a watched directory, with a loader and an engine that only take notes."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from tinylora_rl.serving.admission import ServedAdapter
from tinylora_rl.serving.registry import AdapterRegistry


class Loader:
    """Admits what it can read; the content of `adapter.safetensors` is the digest."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.num_looks = 0

    def load(self, directory: Path) -> ServedAdapter:
        self.num_looks += 1
        if self.fault is not None:
            raise self.fault
        content = (directory / "adapter.safetensors").read_text()
        if content == "bad":
            raise ValueError(f"{directory}/adapter.safetensors: payload_sha256 differs")
        return ServedAdapter(digest=content, num_parameters=13, directory=directory)


class Stage:
    def __init__(self, watched: Path) -> None:
        self.watched = watched
        self.loader = Loader()
        self.events: list[str] = []
        self.said: list[str] = []
        self.engine_refuses: str | None = None
        self.registry = AdapterRegistry(
            loader=self.loader,
            named={"given": ServedAdapter(digest="g", num_parameters=1, directory=watched)},
            watched=watched,
            reserved=("base",),
            register=self.register,
            unregister=lambda name: self.events.append(f"-{name}"),
            report=self.said.append,
        )

    async def register(self, name: str, adapter: ServedAdapter) -> None:
        if self.engine_refuses:
            raise ValueError(self.engine_refuses)
        self.events.append(f"+{name}:{adapter.digest}")

    def put(self, name: str, digest: str) -> None:
        folder = self.watched / name
        folder.mkdir(exist_ok=True)
        (folder / "adapter.safetensors").write_text(digest)
        (folder / "manifest.json").write_text("{}")

    def update(self) -> list[str]:
        """What happened."""
        self.events.clear()
        asyncio.run(self.registry.update())
        return list(self.events)


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "watched").mkdir()
    return Stage(tmp_path / "watched")


def test_adapters_come_and_go(stage):
    assert stage.update() == []
    stage.put("a", "1")
    stage.put("b", "2")
    assert stage.update() == ["+a:1", "+b:2"]
    assert stage.update() == []
    shutil.rmtree(stage.watched / "a")
    assert stage.update() == ["-a"]
    assert set(stage.registry.served) == {"given", "b"}
    stage.put("a", "1")
    assert stage.update() == ["+a:1"]


def test_nothing_is_looked_at_twice_unless_it_changed(stage):
    stage.put("a", "1")
    stage.put("b", "bad")
    for _ in range(3):
        stage.update()
    assert stage.loader.num_looks == 2


def test_a_half_written_adapter_is_not_looked_at(stage):
    (stage.watched / "a").mkdir()
    (stage.watched / "a" / "adapter.safetensors").write_text("1")
    stage.put(".a.new", "1")
    assert stage.update() == []
    assert stage.loader.num_looks == 0
    (stage.watched / "a" / "manifest.json").write_text("{}")
    assert stage.update() == ["+a:1"]


def test_a_run_directory_is_its_adapter(stage):
    stage.put("run", "1")
    (stage.watched / "run").rename(stage.watched / "adapter")
    (stage.watched / "run").mkdir()
    (stage.watched / "adapter").rename(stage.watched / "run" / "adapter")
    assert stage.update() == ["+run:1"]


def test_a_damaged_one_is_refused_with_its_reason_until_it_is_fixed(stage):
    stage.put("a", "bad")
    assert stage.update() == []
    assert stage.registry.refused == {"a": "a/adapter.safetensors: payload_sha256 differs"}
    assert stage.said == ["refused a/adapter.safetensors: payload_sha256 differs"]
    stage.put("a", "1")
    assert stage.update() == ["+a:1"]
    assert stage.registry.refused == {}


def test_what_is_damaged_later_is_withdrawn(stage):
    stage.put("a", "1")
    stage.update()
    stage.put("a", "bad")
    assert stage.update() == ["-a"]
    assert "a" in stage.registry.refused
    shutil.rmtree(stage.watched / "a")
    assert stage.update() == []
    assert stage.registry.refused == {}


def test_a_name_keeps_its_adapter(stage):
    """vLLM's prefix cache would answer for the new one from what the old one left behind."""
    stage.put("a", "1")
    stage.update()
    stage.put("a", "22")
    assert stage.update() == ["-a"]
    assert (
        "was another adapter since this server started (1, now 22)" in stage.registry.refused["a"]
    )
    stage.put("a", "1")
    assert stage.update() == ["+a:1"]


@pytest.mark.parametrize("name", ["base", "given", "bad name", "ü"])
def test_names_that_are_taken_or_none(stage, name):
    stage.put(name, "1")
    assert stage.update() == []
    assert list(stage.registry.refused) == [name]
    assert stage.loader.num_looks == 0
    shutil.rmtree(stage.watched / name)
    assert stage.update() == []
    assert set(stage.registry.served) == {"given"}


def test_a_strangers_name_moves_no_cursor_and_is_always_text(stage):
    for name in (b"\x1b[2J", b"\xff"):
        stage.put(os.fsdecode(name), "1")
    assert stage.update() == []
    assert set(stage.registry.refused) == {"\\x1b[2J", "\\udcff"}
    for text in [*stage.registry.refused, *stage.said]:
        assert text.isprintable()
    shutil.rmtree(stage.watched)
    stage.watched.mkdir()
    stage.update()
    assert stage.registry.refused == {}


def test_a_full_disk_is_tried_again_and_told_once(stage):
    stage.put("a", "1")
    stage.loader.fault = OSError(28, "No space left on device")
    stage.update()
    stage.update()
    assert len(stage.said) == 1
    stage.loader.fault = None
    assert stage.update() == ["+a:1"]
    stage.put("b", "2")
    stage.loader.fault = OSError(28, "No space left on device")
    stage.update()
    shutil.rmtree(stage.watched / "b")
    stage.update()
    assert stage.registry.refused == {}


def test_what_the_engine_refuses_is_not_served(stage):
    stage.put("a", "1")
    stage.engine_refuses = "a: vLLM refuses it: no slots"
    assert stage.update() == []
    assert stage.registry.refused == {"a": "a: vLLM refuses it: no slots"}
    assert "a" not in stage.registry.served
    stage.engine_refuses = None
    stage.put("a", "22")  # never served: the name is free
    assert stage.update() == ["+a:22"]


def test_a_directory_that_vanishes_changes_nothing(stage):
    stage.put("a", "1")
    stage.update()
    stage.watched.rename(stage.watched.with_name("elsewhere"))
    assert stage.update() == []
    assert stage.update() == []
    assert "a" in stage.registry.served
    assert len([line for line in stage.said if "nothing is changed" in line]) == 1


def test_an_unexpected_error_is_not_swallowed(stage):
    stage.put("a", "1")
    stage.loader.fault = RuntimeError("bug")
    with pytest.raises(RuntimeError, match="bug"):
        stage.update()
