"""Counts of the recipes' base models by their makers and by the paper, and their configurations.

`LORA_RANK_1`, `NUM_MODULES` and the counts of one number per n_tie modules are the paper's table;
OLMo 2 is not in it. `NUM_PARAMETERS` are the totals of the published weights.
"""

from transformers import (
    LlamaConfig,
    Olmo2Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

from tinylora_rl.base_model.dims import PUBLISHED

NUM_PARAMETERS = {
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_543_714_304,
    "Qwen/Qwen2.5-3B-Instruct": 3_085_938_688,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "Qwen/Qwen2.5-Math-7B": 7_615_616_512,
    "meta-llama/Llama-3.2-3B-Instruct": 3_212_749_824,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "allenai/OLMo-2-1124-7B-SFT": 7_298_617_344,
}

NUM_MODULES = {
    "Qwen/Qwen2.5-0.5B-Instruct": 168,
    "Qwen/Qwen2.5-1.5B-Instruct": 196,
    "Qwen/Qwen2.5-3B-Instruct": 252,
    "Qwen/Qwen2.5-7B-Instruct": 196,
    "Qwen/Qwen2.5-Math-7B": 196,
    "meta-llama/Llama-3.2-3B-Instruct": 196,
    "meta-llama/Llama-3.1-8B-Instruct": 224,
    "Qwen/Qwen3-8B": 252,
    "allenai/OLMo-2-1124-7B-SFT": 224,
}

TIED_COUNTS = {  # u = 1: n_tie 1, 4, 8, 16, 64
    "Qwen/Qwen2.5-0.5B-Instruct": (168, 42, 21, 11, 3),
    "Qwen/Qwen2.5-1.5B-Instruct": (196, 49, 25, 13, 4),
    "Qwen/Qwen2.5-3B-Instruct": (252, 63, 32, 16, 4),
    "Qwen/Qwen2.5-7B-Instruct": (196, 49, 25, 13, 4),
    "meta-llama/Llama-3.2-3B-Instruct": (196, 49, 25, 13, 4),
    "meta-llama/Llama-3.1-8B-Instruct": (224, 56, 28, 14, 4),
    "Qwen/Qwen3-8B": (252, 63, 32, 16, 4),
}

LORA_RANK_1 = {
    "Qwen/Qwen2.5-0.5B-Instruct": 549_888,
    "Qwen/Qwen2.5-1.5B-Instruct": 1_154_048,
    "Qwen/Qwen2.5-3B-Instruct": 1_870_848,
    "Qwen/Qwen2.5-7B-Instruct": 2_523_136,
    "meta-llama/Llama-3.2-3B-Instruct": 1_519_616,
    "meta-llama/Llama-3.1-8B-Instruct": 2_621_440,
    "Qwen/Qwen3-8B": 2_727_936,
}

FAMILIES = {
    "Qwen/Qwen2.5": Qwen2Config,
    "Qwen/Qwen3": Qwen3Config,
    "meta-llama/Llama": LlamaConfig,
    "allenai/OLMo-2": Olmo2Config,
}


def published_config(model: str) -> PretrainedConfig:
    """Returns the transformers configuration of `model`, as far as its sizes go."""
    dims = PUBLISHED[model]
    config_class = next(family for name, family in FAMILIES.items() if model.startswith(name))
    config = config_class(
        hidden_size=dims.hidden,
        intermediate_size=dims.intermediate,
        num_hidden_layers=dims.blocks,
        num_attention_heads=dims.heads,
        num_key_value_heads=dims.kv_heads,
        head_dim=dims.head_dim,
        vocab_size=dims.vocab,
        max_position_embeddings=dims.context,
        tie_word_embeddings=dims.is_tied,
    )
    config.architectures = [config_class.__name__.replace("Config", "ForCausalLM")]
    return config
