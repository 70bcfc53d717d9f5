"""What a stranger's directory must not be able to do: fill memory, hang, or move the cursor."""

import json
import os

import pytest

from tinylora_rl import artifact
from tinylora_rl.artifact.files import read_bounded
from tinylora_rl.artifact.manifest import MANIFEST_LIMIT_BYTES
from tinylora_rl.artifact.model_card import printable


def test_a_file_past_the_limit_is_not_read(tmp_path):
    path = tmp_path / "manifest.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: takes no disk, would take a terabyte of memory
    with pytest.raises(ValueError, match="at most 1048576 are read"):
        artifact.read_manifest(tmp_path)
    path.write_bytes(b"x" * 10)
    assert read_bounded(path, 10) == b"x" * 10
    with pytest.raises(ValueError, match="10 bytes, at most 9"):
        read_bounded(path, 9)


@pytest.mark.timeout(20)
def test_a_pipe_or_device_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(ValueError, match="not a regular file"):
        artifact.read_manifest(tmp_path)
    (tmp_path / "zero").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match="not a regular file"):
        read_bounded(tmp_path / "zero", 100)
    with pytest.raises(ValueError, match="not a regular file"):
        read_bounded(tmp_path, 100)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 500_000,
        '{"a":' * 150_000,
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": NaN}',
        '{"format": 2, "digest": NaN}',
        '{"format": ' + "9" * 5000 + "}",
        '{"format": "\\ud800"}',
        "\u00e9",
        "",
    ],
    ids=lambda text: text[:12],
)
def test_json_of_any_kind_is_refused_with_one_line(tmp_path, text):
    assert len(text) <= MANIFEST_LIMIT_BYTES
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match=r"take another|this version reads") as caught:
        artifact.read_manifest(tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(tmp_path))


def test_a_key_stated_twice_is_refused(tmp_path):
    (tmp_path / "manifest.json").write_text('{"format": 1, "format": 2}')
    with pytest.raises(ValueError, match="digest differs"):
        artifact.read_manifest(tmp_path)


def test_control_characters_are_not_printed():
    assert printable("a\x1b[2Jb\nc\u202ed") == "a\\x1b[2Jb\\nc\\u202ed"
    assert printable("x" * 1000) == "x" * 197 + "..."
    assert printable(json.loads('"\\ud800"')) == "\\ud800"
