"""A checksum of named tensors that both ends compute on the device, in one pass, in any order.

Not a cryptographic digest: it detects what goes wrong in a sync (a missing, stale, doubled,
permuted or corrupted tensor), at the speed of memory. All arithmetic is integer, modulo 2^64, hence
exact and independent of the order of reduction.
"""

from __future__ import annotations

import hashlib

import torch

_CHUNK = 1 << 22  # words at a time: 32 MB of 64-bit temporaries, whatever the tensor's size
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
    """Sum of word_i * (2 i + 1) over the tensor's words, modulo 2^64; every position has its own
    odd weight.
    """
    flat = tensor.detach().contiguous().view(-1)
    words = flat.view(
        {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[flat.element_size()]
    )
    total = torch.zeros((), dtype=torch.int64, device=words.device)
    for start in range(0, words.numel(), _CHUNK):
        chunk = words[start : start + _CHUNK].to(torch.int64)
        index = torch.arange(start, start + chunk.numel(), dtype=torch.int64, device=words.device)
        total += (chunk * (2 * index + 1)).sum()
    return int(total) & _MASK
