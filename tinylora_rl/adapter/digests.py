"""Hashes base weights, in parallel and with a memory for files on disk; and names a v.

Legend: O out, I in.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import nn

from tinylora_rl.adapter.targets import Target
from tinylora_rl.adapter.weights import CheckpointWeights, Weights, as_weights
from tinylora_rl.atomic import read_json, write_json

logger = logging.getLogger(__name__)

MAX_THREADS = 8  # hashlib releases the GIL; beyond this, memory is the limit


def base_digest(
    source: nn.Module | Weights, targets: Sequence[Target], *, memo_dir: Path | None = None
) -> str:
    """Hashes one line per target weight, in depth order: name, shape, dtype, sha256 of bytes.

    The same for a checkpoint and for the model loaded from it in the checkpoint's dtype.

    Args:
        memo_dir: see `weight_digests`.
    """
    weights = as_weights(source)
    names = [target.weight_name for target in targets]
    of_bytes = weight_digests(weights, names, memo_dir=memo_dir)
    lines = hashlib.sha256()
    for name in names:
        shape = "x".join(map(str, weights.shape(name)))
        lines.update(f"{name} {shape} {weights.dtype(name)} {of_bytes[name]}\n".encode())
    return lines.hexdigest()


def weight_digests(
    weights: Weights, names: Iterable[str], *, memo_dir: Path | None = None
) -> dict[str, str]:
    """Returns {name: sha256 of the weight's bytes}, row-major, hashed in parallel threads.

    Args:
        memo_dir: where digests of checkpoint files are remembered, under each file's resolved path,
            size, times of modification and of change, and inode, so that an unchanged file is read
            once. Damage that changes none of these (a dying disk) is not seen. None remembers
            them in the object alone; weights in memory are hashed every time.
    """
    names = list(names)
    if not isinstance(weights, CheckpointWeights):
        return _hashed(weights, names)
    new = [name for name in names if name not in weights.digests]
    weights.digests |= (
        _hashed(weights, new) if memo_dir is None else _recalled(weights, new, memo_dir)
    )
    return {name: weights.digests[name] for name in names}


def vector_digest(v_bytes: bytes) -> str:
    """Names a v by its bits: the first 16 hexadecimal digits of their sha256."""
    return hashlib.sha256(v_bytes).hexdigest()[:16]


def _recalled(weights: CheckpointWeights, names: Sequence[str], memo_dir: Path) -> dict[str, str]:
    digests: dict[str, str] = {}
    for file in dict.fromkeys(weights.file_of(name) for name in names):
        wanted = [name for name in names if weights.file_of(name) == file]
        memo = _memo_path(file, memo_dir)
        stored = read_json(memo) or {}
        fresh = _hashed(weights, [name for name in wanted if name not in stored])
        # a file that changed while it was read has another memo by now, and is not remembered
        if fresh and memo == _memo_path(file, memo_dir):
            try:
                write_json(memo, stored | fresh)
            except OSError as error:
                logger.warning("%s: not remembered: %s", memo, error)
        digests |= {name: (stored | fresh)[name] for name in wanted}
    return digests


def _hashed(weights: Weights, names: Sequence[str]) -> dict[str, str]:
    # not torch's thread count: Ray sets that to 1 in its workers
    with ThreadPoolExecutor(min(MAX_THREADS, len(os.sched_getaffinity(0)))) as pool:
        return dict(zip(names, pool.map(lambda n: _sha256(weights.tensor(n)), names), strict=True))


def _sha256(weight: torch.Tensor) -> str:
    rows = weight.cpu().contiguous().view(torch.uint8)
    return hashlib.sha256(rows.numpy().data).hexdigest()


def _memo_path(file: Path, memo_dir: Path) -> Path:
    resolved = file.resolve()
    stat = resolved.stat()
    key = f"{resolved}\n{stat.st_size}\n{stat.st_mtime_ns}\n{stat.st_ctime_ns}\n{stat.st_ino}"
    return memo_dir / f"{hashlib.sha256(key.encode()).hexdigest()}.json"
