"""A checksum of named tensors that both ends compute on the device, in one pass, in any order.

Not a cryptographic digest: it detects what goes wrong in a sync (a missing, stale, doubled,
permuted or corrupted tensor), at the speed of memory. All arithmetic is integer, modulo 2^64, hence
exact and independent of the order of reduction.
"""

from __future__ import annotations

import functools
import hashlib

import torch

_WORD_BYTES = 8
# 64-bit words at a time: a CPU's cache holds them, weights and products; a GPU wants fewer launches
_CHUNK = {"cpu": 1 << 15}
_CHUNK_ELSEWHERE = 1 << 24
_MASK = (1 << 64) - 1


class StreamChecksum:
    """Sum over tensors of hash(name, shape, dtype) * (2 * content + 1), modulo 2^64."""

    def __init__(self) -> None:
        self._sum = 0
        self.num_tensors = 0
        self.num_bytes = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        header = f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode()
        weight = int.from_bytes(hashlib.sha256(header).digest()[:8], "big") | 1
        self._sum = (self._sum + weight * (2 * _content(tensor) + 1)) & _MASK
        self.num_tensors += 1
        self.num_bytes += tensor.nbytes

    def hexdigest(self) -> str:
        return f"{self._sum:016x}"


def _content(tensor: torch.Tensor) -> int:
    """Sum over the tensor's words of word_i * (2 i + 1), modulo 2^64; every position has its own
    odd weight.
    """
    data = tensor.detach().contiguous().view(-1).view(torch.uint8)
    if data.data_ptr() % _WORD_BYTES or data.storage_offset() % _WORD_BYTES:
        data = data.clone()  # a view of 8-byte words must be aligned
    num_whole = data.numel() // _WORD_BYTES * _WORD_BYTES
    words = data[:num_whole].view(torch.int64)
    size = _CHUNK.get(words.device.type, _CHUNK_ELSEWHERE)
    weights = _odd_numbers(min(size, max(1, words.numel())), words.device)
    product = torch.empty_like(weights)
    sums = []
    for start in range(0, words.numel(), size):
        chunk = words[start : start + size]
        weighted = torch.mul(chunk, weights[: chunk.numel()], out=product[: chunk.numel()])
        # word_i * (2 i + 1) with i = start + j
        sums.append(weighted.sum() + 2 * start * chunk.sum())
    tail = int.from_bytes(bytes(data[num_whole:].tolist()), "little")  # less than a word
    total = int(torch.stack(sums).sum()) if sums else 0
    return (total + tail * (2 * words.numel() + 1)) & _MASK


@functools.lru_cache(maxsize=8)
def _odd_numbers(count: int, device: torch.device) -> torch.Tensor:
    return 2 * torch.arange(count, dtype=torch.int64, device=device) + 1
