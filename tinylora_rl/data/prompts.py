r"""Named prompt templates: question -> chat messages.

| name | source |
|---|---|
| `gsm8k_hash` | verl's `examples/data_preprocess/gsm8k.py`: asks for the answer after `####` |
| `boxed` | SimpleRL-Zoo's Qwen template: system message, asks for the answer in `\boxed{}` |

`gsm8k_hash` carries no system message, as in verl; Qwen2.5's chat template then adds its own.
"""

from collections.abc import Callable

from tinylora_rl.data.errors import DataError

Message = dict[str, str]
Template = Callable[[str], list[Message]]


def gsm8k_hash(question: str) -> list[Message]:
    """verl's GSM8K prompt, which goes with the extractor `strict`."""
    instruction = 'Let\'s think step by step and output the final answer after "####".'
    return [{"role": "user", "content": f"{question} {instruction}"}]


def boxed(question: str) -> list[Message]:
    """SimpleRL's prompt, which goes with the extractor `boxed`."""
    instruction = r"Please reason step by step, and put your final answer within \boxed{}."
    return [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": f"{question}\n{instruction}"},
    ]


TEMPLATES: dict[str, Template] = {"gsm8k_hash": gsm8k_hash, "boxed": boxed}


def template_named(name: str) -> Template:
    """Return the template of that name; DataError with the choices if there is none."""
    if name not in TEMPLATES:
        raise DataError(
            f"data.template={name}: no such template; choose from {', '.join(TEMPLATES)}"
        )
    return TEMPLATES[name]
