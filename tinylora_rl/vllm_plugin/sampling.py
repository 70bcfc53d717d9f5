"""Sampling parameters of vLLM: a seed for every sample, and greedy decoding.

vLLM draws from one generator per engine unless a request has its own seed; a sample then depends on
the requests that came before it.
"""

from __future__ import annotations

import hashlib
from typing import Any

GREEDY: dict[str, Any] = {"temperature": 0, "top_p": 1.0, "top_k": -1}


def sample_seed(*key: int | str) -> int:
    """Derives a 31-bit seed from `key` alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
