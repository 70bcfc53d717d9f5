"""Reads base weights by name, one at a time, from safetensors files or from a model.

Legend: O out, I in.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
}


class Weights(Protocol):
    """Named base weights, whole (not sharded over ranks)."""

    def names(self) -> list[str]:
        """Lists all weights, "model.layers.0.self_attn.q_proj.weight" and so on."""

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> torch.dtype: ...

    def tensor(self, name: str) -> torch.Tensor:
        """Returns the weight, detached; only read it."""


class ModelWeights:
    """The weights of a model in memory, on whatever device they are; `meta` has no values."""

    def __init__(self, model: nn.Module) -> None:
        # not its parameters: FSDP replaces them, and the whole ones must not be kept alive
        self._model = model

    def names(self) -> list[str]:
        return [name for name, _ in self._model.named_parameters()]

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensor(name).shape)

    def dtype(self, name: str) -> torch.dtype:
        return self.tensor(name).dtype

    def tensor(self, name: str) -> torch.Tensor:
        try:
            return self._model.get_parameter(name).detach()
        except AttributeError as error:
            raise ValueError(f"{name}: the model has no such weight") from error


class CheckpointWeights:
    """The weights in a folder of safetensors files, read one tensor at a time.

    Attributes:
        directory: the folder, with config.json and model.safetensors or shards and their index.
        files: {weight name: its file}.
        digests: {weight name: sha256 of its bytes}, of those that were hashed; see
            `weight_digests`.

    Raises:
        ValueError: the folder is no safetensors checkpoint, is quantised, lacks a shard, or a file
            is damaged; the message names the file and the fix.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        if not self.directory.is_dir():
            raise ValueError(f"{directory}: no such folder; give a downloaded checkpoint")
        _refuse_quantised(self.directory / "config.json")
        self.files = self._locate()
        self.digests: dict[str, str] = {}
        self._slices: dict[str, tuple[tuple[int, ...], str]] = {}

    def names(self) -> list[str]:
        return list(self.files)

    def file_of(self, name: str) -> Path:
        """Returns the weight's file; ValueError where there is no such weight."""
        if name not in self.files:
            raise ValueError(f"{self.directory}: no weight {name}; is it another architecture?")
        return self.files[name]

    def shape(self, name: str) -> tuple[int, ...]:
        return self._header(name)[0]

    def dtype(self, name: str) -> torch.dtype:
        code = self._header(name)[1]
        if code not in _DTYPES:
            raise ValueError(
                f"{self.files[name]}: {name} is {code}, which is not supported yet; use a "
                "checkpoint in bf16, fp16 or fp32"
            )
        return _DTYPES[code]

    def tensor(self, name: str) -> torch.Tensor:
        self.dtype(name)
        with _opened(self.files[name]) as file:
            return file.get_tensor(name)

    def rows(self, name: str, indices: Iterable[int]) -> torch.Tensor:
        """Reads those rows of the weight, (len(indices), I), and nothing else of it."""
        self.dtype(name)
        with _opened(self.files[name]) as file:
            entry = file.get_slice(name)
            return torch.cat([entry[index : index + 1] for index in indices])

    def _header(self, name: str) -> tuple[tuple[int, ...], str]:
        if name not in self._slices:
            with _opened(self.file_of(name)) as file:
                for key in file.keys():  # noqa: SIM118  # not a mapping
                    entry = file.get_slice(key)
                    self._slices[key] = (tuple(entry.get_shape()), entry.get_dtype())
            if name not in self._slices:
                raise ValueError(
                    f"{self.files[name]}: {name} is missing, though {INDEX} places it there; "
                    "download the checkpoint again"
                )
        return self._slices[name]

    def _locate(self) -> dict[str, Path]:
        index, single = self.directory / INDEX, self.directory / SINGLE
        if index.is_file():
            try:
                places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            except (json.JSONDecodeError, KeyError) as error:
                raise ValueError(
                    f"{index}: damaged ({error}); download the checkpoint again"
                ) from error
            missing = [f for f in sorted(set(places.values())) if not (self.directory / f).exists()]
            if missing:
                raise ValueError(
                    f"{self.directory / missing[0]}: this shard is missing ({len(missing)} are); "
                    "download the checkpoint again"
                )
            return {name: self.directory / file for name, file in places.items()}
        if single.is_file():
            with _opened(single) as file:
                return dict.fromkeys(file.keys(), single)
        pickled = [*self.directory.glob("pytorch_model*"), *self.directory.glob("*.pt")]
        if pickled:
            raise ValueError(
                f"{pickled[0]}: pickled weights are never read; convert the checkpoint to "
                "safetensors (save_pretrained)"
            )
        raise ValueError(f"{self.directory}: neither {SINGLE} nor {INDEX}; give a checkpoint")


class CastWeights:
    """`weights` in another dtype, exactly: an fp32 model as the bf16 checkpoint it came from.

    Raises:
        ValueError: on reading a weight that `dtype` cannot hold exactly.
    """

    def __init__(self, weights: Weights, dtype: torch.dtype) -> None:
        self._weights = weights
        self._dtype = dtype

    def names(self) -> list[str]:
        return self._weights.names()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._weights.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        del name
        return self._dtype

    def tensor(self, name: str) -> torch.Tensor:
        weight = self._weights.tensor(name)
        cast = weight.to(self._dtype)
        if not torch.equal(cast.to(weight.dtype), weight):
            raise ValueError(
                f"{name}: is {weight.dtype} here and holds values that {self._dtype} does not; it "
                f"was not loaded from weights in {self._dtype}"
            )
        return cast


def in_dtype(weights: Weights, dtype: torch.dtype, names: Iterable[str]) -> Weights:
    """Returns `weights`, cast to `dtype` (exactly) unless those called `names` are in it."""
    if all(weights.dtype(name) == dtype for name in names):
        return weights
    return CastWeights(weights, dtype)


def as_weights(source: nn.Module | Weights) -> Weights:
    """Returns `source` as named weights."""
    return ModelWeights(source) if isinstance(source, nn.Module) else source


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path}: unreadable or cut short ({error}); download the checkpoint again"
        ) from error


def _refuse_quantised(config_path: Path) -> None:
    if not config_path.is_file():
        return
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{config_path}: damaged ({error}); download the checkpoint again"
        ) from error
    quantisation = config.get("quantization_config")
    if quantisation:
        raise ValueError(
            f"{config_path}: quantization_config.quant_method="
            f"{quantisation.get('quant_method', 'unknown')}: quantised base models are not "
            "supported yet; use the checkpoint in bf16, fp16 or fp32"
        )
