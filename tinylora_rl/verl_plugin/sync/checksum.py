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
_CHUNK = 1 << 15  # 64-bit words at a time: a CPU's cache holds them, weights and products
_MASK = (1 << 64) - 1


class StreamChecksum:
    """Sum over tensors of hash(name, shape, dtype) * (2 * content + 1), modulo 2^64.

    Args:
        sampled: of larger tensors one chunk of 256 KiB in eight is read. A sync fails by tensors
            and by buckets, which that finds at an eighth of the cost; a single flipped bit it may
            not.
    """

    def __init__(self, *, sampled: bool = False) -> None:
        self._stride = 8 if sampled else 1
        self._sum = 0
        self.num_tensors = 0
        self.num_bytes = 0

    def add(self, name: str, tensor: torch.Tensor) -> None:
        header = f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode()
        weight = int.from_bytes(hashlib.sha256(header).digest()[:8], "big") | 1
        content = _content(tensor, self._stride)
        self._sum = (self._sum + weight * (2 * content + 1)) & _MASK
        self.num_tensors += 1
        self.num_bytes += tensor.nbytes

    def hexdigest(self) -> str:
        return f"{self._sum:016x}"


def _content(tensor: torch.Tensor, stride: int) -> int:
    """Sum over the tensor's words of word_i * (2 i + 1), modulo 2^64; every position has its own
    odd weight. With a stride, of every stride-th chunk of words.
    """
    data = tensor.detach().contiguous().view(-1).view(torch.uint8)
    if data.data_ptr() % _WORD_BYTES or data.storage_offset() % _WORD_BYTES:
        data = data.clone()  # a view of 8-byte words must be aligned
    num_whole = data.numel() // _WORD_BYTES * _WORD_BYTES
    words = data[:num_whole].view(torch.int64)
    weights = _odd_numbers(min(_CHUNK, max(1, words.numel())), words.device)
    product = torch.empty_like(weights)
    sums = []
    for start in range(0, words.numel(), _CHUNK * stride):
        chunk = words[start : start + _CHUNK]
        weighted = torch.mul(chunk, weights[: chunk.numel()], out=product[: chunk.numel()])
        # word_i * (2 i + 1) with i = start + j
        sums.append(weighted.sum() + 2 * start * chunk.sum())
    tail = int.from_bytes(bytes(data[num_whole:].tolist()), "little")  # less than a word
    total = int(torch.stack(sums).sum()) if sums else 0
    return (total + tail * (2 * words.numel() + 1)) & _MASK


@functools.lru_cache(maxsize=8)
def _odd_numbers(count: int, device: torch.device) -> torch.Tensor:
    return 2 * torch.arange(count, dtype=torch.int64, device=device) + 1
