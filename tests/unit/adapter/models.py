"""Small models of the supported architectures, with random weights from a seed."""

import copy

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

_SHAPE = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,  # k and v are narrower than q: one v serves different shapes
    "max_position_embeddings": 64,
}

CONFIGS = {
    "qwen2": Qwen2Config(**_SHAPE),
    "qwen3": Qwen3Config(**_SHAPE, head_dim=8),
    "llama": LlamaConfig(**_SHAPE),
}


def small_model(architecture: str = "qwen2", dtype: torch.dtype = torch.float32, seed: int = 0):
    torch.manual_seed(seed)
    config = copy.deepcopy(CONFIGS[architecture])  # saving a model writes its dtype into the config
    return AutoModelForCausalLM.from_config(config).to(dtype).eval()


def token_ids(num_rows: int = 3, num_tokens: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, _SHAPE["vocab_size"], (num_rows, num_tokens), generator=generator)
