"""What was trained after every step, bit for bit, and once."""

import json
import random
import struct

import numpy as np
import pytest

from tinylora_rl.runs.vector_log import VectorLog, read_vectors, vector_sha256


def float32_numbers(count: int, seed: int) -> list[float]:
    """Any finite float32: bits drawn at random, and the awkward ones."""
    draw = random.Random(seed)
    numbers = [0.0, -0.0, 1e-45, -3.4028234663852886e38, 1.17549435e-38, 0.1]
    while len(numbers) < count:
        [number] = struct.unpack("<f", struct.pack("<I", draw.getrandbits(32)))
        if np.isfinite(number):
            numbers.append(number)
    return [float(np.float32(number)) for number in numbers[:count]]


def bits(v_GU) -> bytes:
    return np.asarray(v_GU, dtype=np.float32).tobytes()


def test_every_float32_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / "v.jsonl"
    vectors = {step: [float32_numbers(500, step), float32_numbers(500, -step)] for step in (1, 2)}
    log = VectorLog(path, last_step=0)
    for step, v_GU in vectors.items():
        log.append(step, v_GU)
    read = read_vectors(path)
    assert list(read) == [1, 2]
    for step, v_GU in vectors.items():
        assert bits(read[step]) == bits(v_GU)
    row = json.loads(path.read_text().splitlines()[0])
    assert row["sha256"] == vector_sha256(vectors[1])
    assert len(path.read_text()) < 2 * 1000 * 17


def test_a_resumed_run_writes_every_step_once(tmp_path):
    path = tmp_path / "v.jsonl"
    log = VectorLog(path, last_step=0)
    for step in (1, 2, 3):
        log.append(step, [[0.5 * step]])
    with path.open("a") as file:
        file.write('{"step": 4, "v": [[0.')  # torn by a kill
    assert list(read_vectors(path)) == [1, 2, 3]
    log = VectorLog(path, last_step=2)  # the checkpoint of step 3 was not finished
    assert list(read_vectors(path)) == [1, 2]
    log.append(3, [[7.0]])
    assert read_vectors(path)[3] == [[7.0]]
    assert len(path.read_text().splitlines()) == 3
    before = path.stat().st_ino
    VectorLog(path, last_step=3)  # nothing to cut: not written again
    assert path.stat().st_ino == before


def test_a_damaged_line_is_refused(tmp_path):
    path = tmp_path / "v.jsonl"
    VectorLog(path, last_step=0).append(1, [[0.5, 0.25]])
    path.write_text(path.read_text().replace("0.25", "0.26"))
    with pytest.raises(ValueError, match="the line of step 1 is damaged"):
        read_vectors(path)
