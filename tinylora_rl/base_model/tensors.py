"""The tensors of a base model, counted from the headers of its files: no weight is read, no torch.

`safe_open` maps a file and parses its header alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open


def tensor_shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields (name, shape) of every tensor in the safetensors files of `folder`.

    Raises:
        ValueError: a file is damaged.
    """
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118  # not a mapping
                    yield name, tuple(file.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: no safetensors file ({error})") from error


def num_stored_parameters(folder: Path) -> int:
    """Returns how many numbers the safetensors files of `folder` hold; 0 where there are none.

    Raises:
        ValueError: a file is damaged.
    """
    return sum(math.prod(shape) for _, shape in tensor_shapes(folder))
