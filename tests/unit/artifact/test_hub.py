"""Publishing, against an HTTP server that answers like the Hub and keeps what it is sent."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.unit.artifact.conftest import save_adapter
from tinylora_rl import artifact
from tinylora_rl.adapter import TinyLoraConfig


class FakeHub(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kept, host = self.server.kept, f"http://localhost:{self.server.server_port}"
        if self.path == "/api/repos/create":
            kept["repo"] = json.loads(body)
            self._answer({"url": f"{host}/me/tiny", "name": "me/tiny", "id": "1"})
        elif self.path == "/api/models/me/tiny/preupload/main":
            files = json.loads(body)["files"]
            modes = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self._answer({"files": modes})
        elif self.path.startswith("/api/models/me/tiny/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    kept[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self._answer({"commitUrl": f"{host}/me/tiny/commit/1", "commitOid": "1" * 40})
        elif self.path == "/api/validate-yaml":
            kept["card"] = json.loads(body)["content"]
            self._answer({"errors": [], "warnings": []})
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        self._answer({"id": "me/tiny", "sha": "0" * 40, "siblings": []})

    def _answer(self, value: dict) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args) -> None: ...


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    with ThreadingHTTPServer(("localhost", 0), FakeHub) as server:
        server.kept = {}
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_what_is_published_is_the_verified_adapter_and_a_card(tmp_path, hub):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig())
    (tmp_path / "secret").write_text("secret")
    (directory / "README.md").symlink_to(tmp_path / "secret")
    (directory / "notes.txt").write_text("private")
    address = artifact.push(
        directory, "me/tiny", private=True, endpoint=f"http://localhost:{hub.server_port}"
    )
    assert address.endswith("/me/tiny/commit/1")
    repo, card = hub.kept.pop("repo"), hub.kept.pop("card")
    assert (repo["name"], repo["organization"]) == ("tiny", "me")
    assert repo["visibility"] == "private"
    assert sorted(hub.kept) == ["README.md", "adapter.safetensors", "manifest.json"]
    for name in ("adapter.safetensors", "manifest.json"):
        assert hub.kept[name] == (directory / name).read_bytes()
    assert hub.kept["README.md"].decode() == card
    assert "library_name: tinylora-rl" in card


def test_a_damaged_adapter_is_not_published(tmp_path, hub):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig())
    path = directory / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(ValueError, match="payload_sha256 differs"):
        artifact.push(directory, "me/tiny", endpoint=f"http://localhost:{hub.server_port}")
    assert hub.kept == {}


def test_a_hub_that_is_not_there_is_an_environment_error(tmp_path):
    directory, _ = save_adapter(tmp_path / "adapter", TinyLoraConfig())
    with pytest.raises(OSError, match="repo_id=me/tiny: http://localhost:9"):
        artifact.push(directory, "me/tiny", endpoint="http://localhost:9")
