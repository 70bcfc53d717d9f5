"""How a response is drawn: a seed for every sample, and greedy decoding, in vLLM's words.

vLLM draws from one generator per engine unless a request brings its own seed; what a sample becomes
then depends on which requests came before it.
"""

from __future__ import annotations

import hashlib
from typing import Any

GREEDY: dict[str, Any] = {"temperature": 0, "top_p": 1.0, "top_k": -1}


def sample_seed(*key: int | str) -> int:
    """A 31-bit seed that is a function of `key` alone."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
