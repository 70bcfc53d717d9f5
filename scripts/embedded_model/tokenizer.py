"""Trains a byte-level BPE of 300 tokens that `AutoTokenizer` reads back as a `Qwen2Tokenizer`.

`AutoTokenizer` builds Qwen2's tokenizer for every folder whose model_type is qwen2, whatever class
the folder names; in a vocabulary not made for its pre-tokenizer, spaces vanish without a word. So
the vocabulary is trained with that very pre-tokenizer, which also keeps each digit a token of its
own.

verl asks for two more things: `\\n` is one token, and `<|im_end|>` exists.
"""

import json

from embedded_model.completions import terse_completion
from tokenizers import pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from tinylora_rl.tasks.arithmetic import sample_problems

END_OF_TEXT = "<|endoftext|>"
TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, TURN_START, TURN_END)

NUM_BYTES = 256
# Enough for "What", "assistant", "####", ...: the corpus runs out of pairs before this many.
MAX_MERGES = 64
NUM_CORPUS_PROBLEMS = 500

# ChatML as in Qwen2.5, without its default system message.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def train_tokenizer(seed: int) -> Qwen2Tokenizer:
    """Returns a tokenizer trained on the task's own text, roles of the chat template included."""
    corpus = [
        f"system\nuser\n{problem.question}\nassistant\n{completion}"
        for problem in sample_problems("train", NUM_CORPUS_PROBLEMS, seed)
        for completion in (problem.worked, terse_completion(problem.answer))
    ]
    # An empty Qwen2Tokenizer carries the right normalizer, pre-tokenizer and decoder.
    backend = Qwen2Tokenizer(vocab={}, merges=[]).backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=NUM_BYTES + MAX_MERGES,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    backend.train_from_iterator(corpus, trainer)
    trained = json.loads(backend.to_str())["model"]

    tokens = sorted(trained["vocab"], key=trained["vocab"].__getitem__)
    ordinary = [token for token in tokens if token not in SPECIAL_TOKENS]
    tokenizer = Qwen2Tokenizer(
        vocab={token: index for index, token in enumerate([*ordinary, *SPECIAL_TOKENS])},
        merges=[tuple(pair) for pair in trained["merges"]],  # type: ignore[misc]  # pairs, in truth
        unk_token=END_OF_TEXT,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        additional_special_tokens=[TURN_START],
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
