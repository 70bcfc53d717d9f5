import http.server
import threading
from functools import partial

import pytest

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks import write_parquet
from tinylora_rl.tasks.records import HubFiles, Record, WebFile, read_file

VALUES = [{"question": "1+1?", "answer": "2"}, {"question": "2+2?", "answer": "4"}]


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def web(tmp_path):
    """(folder, its address) of a server on this machine."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_web_file_is_read_as_a_local_one(web, hub_cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder, address = web
    (folder / "test.jsonl").write_text('{"a": 1}\n\n{"a": "\u03c0"}\n', encoding="utf-8")
    records = list(WebFile(f"{address}/test.jsonl").records())
    local = list(read_file(folder / "test.jsonl", f"{address}/test.jsonl"))
    assert records == local
    assert [record.values for record in records] == [{"a": 1}, {"a": "\u03c0"}]
    assert records[1].place == f"{address}/test.jsonl line 3"


def test_a_web_file_that_cannot_be_had(web, hub_cache, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    _, address = web
    with pytest.raises(ConfigError, match=r"data\.path=null \(http.*not loaded.*point data\.path"):
        WebFile(f"{address}/none.jsonl").records()


def test_hub_files_are_read_by_datasets(tmp_path, hub_cache):
    # a local folder stands for the repository: `datasets` takes both
    write_parquet(VALUES, tmp_path / "repo" / "hard" / "train.parquet")
    files = HubFiles(
        repo=str(tmp_path / "repo"), data_files="hard/train.parquet", revision="x", split="train"
    )
    assert [record.values for record in files.records()] == VALUES


def test_hub_files_that_cannot_be_had(tmp_path, hub_cache):
    files = HubFiles(repo=str(tmp_path), data_files="none.parquet", revision="x", split="train")
    with pytest.raises(ConfigError, match=r"data\.path=null \(.*revision x\): not loaded") as error:
        list(files.records())
    assert "\n" not in str(error.value)


def test_parquet_and_jsonl_hold_the_same_records(tmp_path):
    parquet = write_parquet(VALUES, tmp_path / "train.parquet")
    assert [record.values for record in read_file(parquet, "p")] == VALUES
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match=r"p: not a parquet file .*; get it anew"):
        list(read_file(tmp_path / "broken.parquet", "p"))


def test_columns_are_asked_for():
    record = Record("line 1", {"a": "text", "b": 1})
    assert record.text("a") == "text"
    assert record.value("b") == 1
    with pytest.raises(ConfigError, match="line 1: b=1 is not text"):
        record.text("b")
    with pytest.raises(ConfigError, match=r"line 1: no column 'c' \(found: a, b\)"):
        record.value("c")
