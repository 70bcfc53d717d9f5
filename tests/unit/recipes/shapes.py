"""The base models of the recipes as their makers publish them, and what the paper counts on them.

Shapes from each model's config.json. `LORA_RANK_1`, N and the counts of one number per n_tie
modules are the paper's table, with which the shapes are checked; OLMo 2 is not in it.
"""

from transformers import (
    LlamaConfig,
    Olmo2Config,
    PretrainedConfig,
    Qwen2Config,
    Qwen3Config,
)

Shape = dict[str, int | bool]


def _shape(
    hidden: int,
    intermediate: int,
    blocks: int,
    heads: int,
    kv_heads: int,
    *,
    vocab: int,
    context: int,
    tied: bool,
) -> Shape:
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": blocks,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": hidden // heads,
        "vocab_size": vocab,
        "max_position_embeddings": context,
        "tie_word_embeddings": tied,
    }


# fmt: off
SHAPES: dict[str, tuple[type[PretrainedConfig], Shape]] = {
    "Qwen/Qwen2.5-0.5B-Instruct": (Qwen2Config, _shape(
        896, 4_864, 24, 14, 2, vocab=151_936, context=32_768, tied=True)),
    "Qwen/Qwen2.5-1.5B-Instruct": (Qwen2Config, _shape(
        1_536, 8_960, 28, 12, 2, vocab=151_936, context=32_768, tied=True)),
    "Qwen/Qwen2.5-3B-Instruct": (Qwen2Config, _shape(
        2_048, 11_008, 36, 16, 2, vocab=151_936, context=32_768, tied=True)),
    "Qwen/Qwen2.5-7B-Instruct": (Qwen2Config, _shape(
        3_584, 18_944, 28, 28, 4, vocab=152_064, context=32_768, tied=False)),
    "Qwen/Qwen2.5-Math-7B": (Qwen2Config, _shape(
        3_584, 18_944, 28, 28, 4, vocab=152_064, context=4_096, tied=False)),
    "meta-llama/Llama-3.2-3B-Instruct": (LlamaConfig, _shape(
        3_072, 8_192, 28, 24, 8, vocab=128_256, context=131_072, tied=True)),
    "meta-llama/Llama-3.1-8B-Instruct": (LlamaConfig, _shape(
        4_096, 14_336, 32, 32, 8, vocab=128_256, context=131_072, tied=False)),
    "Qwen/Qwen3-8B": (Qwen3Config, _shape(
        4_096, 12_288, 36, 32, 8, vocab=151_936, context=40_960, tied=False)),
    "allenai/OLMo-2-1124-7B-SFT": (Olmo2Config, _shape(
        4_096, 11_008, 32, 32, 32, vocab=100_352, context=4_096, tied=False)),
}
# fmt: on

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


def published_config(model: str) -> PretrainedConfig:
    """The transformers configuration of `model`, as far as its shape goes."""
    config_class, shape = SHAPES[model]
    config = config_class(**shape)
    config.architectures = [config_class.__name__.replace("Config", "ForCausalLM")]
    return config
