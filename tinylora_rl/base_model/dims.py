"""The sizes of a base model, read without weights, torch or the hub."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open


@dataclasses.dataclass(frozen=True)
class ModelDims:
    """A dense decoder of the Llama family: Llama, Qwen2, Qwen2.5, Qwen3 and OLMo 2 are.

    Norms and biases, under 0.1 % of the numbers of the models here, are left out.

    Attributes:
        is_tied: the output layer is the embedding.
    """

    hidden: int
    intermediate: int
    blocks: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    context: int
    is_tied: bool

    def __str__(self) -> str:
        count = self.num_parameters
        return f"{count / 1e9:.3g}B parameters" if count > 1e8 else f"{count / 1e6:.3g}M parameters"

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """The linears of one block, {type: (out, in)}."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return {
            "q_proj": (queries, self.hidden),
            "k_proj": (keys, self.hidden),
            "v_proj": (keys, self.hidden),
            "o_proj": (self.hidden, queries),
            "gate_proj": (self.intermediate, self.hidden),
            "up_proj": (self.intermediate, self.hidden),
            "down_proj": (self.hidden, self.intermediate),
        }

    @property
    def block_numbers(self) -> int:
        return sum(num_out * num_in for num_out, num_in in self.linears.values())

    @property
    def embedding_numbers(self) -> int:
        """Numbers of the embedding, and of the output layer where it is another."""
        return self.vocab * self.hidden * (1 if self.is_tied else 2)

    @property
    def num_parameters(self) -> int:
        return self.embedding_numbers + self.blocks * self.block_numbers

    @property
    def kv_numbers(self) -> int:
        """Numbers of keys and values, a token."""
        return 2 * self.blocks * self.kv_heads * self.head_dim

    def adapted(self, types: Iterable[str]) -> list[tuple[int, int]]:
        """Returns (out, in) of every linear of these types, without types that no block has."""
        linears = self.linears
        return [linears[type_] for type_ in types if type_ in linears] * self.blocks


# As the makers publish them in config.json, so that a run is planned where the hub is out of reach.
_STATED = {
    "Qwen/Qwen2.5-0.5B-Instruct": (896, 4_864, 24, 14, 2, 64, 151_936, 32_768, True),
    "Qwen/Qwen2.5-1.5B-Instruct": (1_536, 8_960, 28, 12, 2, 128, 151_936, 32_768, True),
    "Qwen/Qwen2.5-3B-Instruct": (2_048, 11_008, 36, 16, 2, 128, 151_936, 32_768, True),
    "Qwen/Qwen2.5-7B-Instruct": (3_584, 18_944, 28, 28, 4, 128, 152_064, 32_768, False),
    "Qwen/Qwen2.5-Math-7B": (3_584, 18_944, 28, 28, 4, 128, 152_064, 4_096, False),
    "meta-llama/Llama-3.2-3B-Instruct": (3_072, 8_192, 28, 24, 8, 128, 128_256, 131_072, True),
    "meta-llama/Llama-3.1-8B-Instruct": (4_096, 14_336, 32, 32, 8, 128, 128_256, 131_072, False),
    "Qwen/Qwen3-8B": (4_096, 12_288, 36, 32, 8, 128, 151_936, 40_960, False),
    "allenai/OLMo-2-1124-7B-SFT": (4_096, 11_008, 32, 32, 32, 128, 100_352, 4_096, False),
}
PUBLISHED: Mapping[str, ModelDims] = {name: ModelDims(*sizes) for name, sizes in _STATED.items()}

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # of a mixture, by maker


def dims_in(folder: Path) -> ModelDims | None:
    """Returns what `config.json` in `folder` states; None where it is not of this family."""
    try:
        stated = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        hidden, heads = int(stated["hidden_size"]), int(stated["num_attention_heads"])
        if any(stated.get(key) for key in EXPERTS):
            return None
        return ModelDims(
            hidden=hidden,
            intermediate=int(stated["intermediate_size"]),
            blocks=int(stated["num_hidden_layers"]),
            heads=heads,
            kv_heads=int(stated.get("num_key_value_heads") or heads),
            head_dim=int(stated.get("head_dim") or hidden // heads),
            vocab=int(stated["vocab_size"]),
            context=int(stated["max_position_embeddings"]),
            is_tied=bool(stated.get("tie_word_embeddings", False)),
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError):
        return None


def dims_of(path: str, folder: Path | None) -> ModelDims | None:
    """Returns the sizes of `path`, by its files where they are in `folder`; None: not known."""
    return PUBLISHED.get(path) if folder is None else dims_in(folder)


def tensor_shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields (name, shape) of every stored tensor; ValueError if a file is damaged."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118  # not a mapping
                    yield name, tuple(file.get_slice(name).get_shape())
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: no safetensors file ({error})") from error


def num_stored_parameters(folder: Path) -> int:
    """Counts the numbers in the safetensors files of `folder`; ValueError if one is damaged."""
    return sum(math.prod(shape) for _, shape in tensor_shapes(folder))
