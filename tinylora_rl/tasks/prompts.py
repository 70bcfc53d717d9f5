r"""Named prompt templates: question -> chat messages, and the judge that reads the answers.

| name | judge | source |
|---|---|---|
| `gsm8k_hash` | `strict` | verl's `examples/data_preprocess/gsm8k.py`: the answer after `####` |
| `boxed` | `boxed` | SimpleRL-Zoo's `qwen-boxed`: system message, the answer in `\boxed{}` |
| `natural` | `flexible` | zero-shot chain of thought (Kojima et al., arXiv 2205.11916) |

`natural` is `gsm8k_hash` without the demand for a format: what is left between the two is what a
model knows of the format. `gsm8k_hash` and `natural` carry no system message, as in verl;
Qwen2.5's chat template then adds its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks.row import Message


@dataclass(frozen=True, kw_only=True)
class Template:
    """A prompt, and the names of the judges that find the answer where the prompt asks for it.

    `judge` is for rewards, by exact match; `headline` for tables, where the field's graders accept
    what is mathematically equal.
    """

    messages: Callable[[str], list[Message]]
    judge: str
    headline: str

    def __call__(self, question: str) -> list[Message]:
        return self.messages(question)


def _gsm8k_hash(question: str) -> list[Message]:
    instruction = 'Let\'s think step by step and output the final answer after "####".'
    return [{"role": "user", "content": f"{question} {instruction}"}]


def _boxed(question: str) -> list[Message]:
    instruction = r"Please reason step by step, and put your final answer within \boxed{}."
    return [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": f"{question}\n{instruction}"},
    ]


def _natural(question: str) -> list[Message]:
    return [{"role": "user", "content": f"{question} Let's think step by step."}]


TEMPLATES: dict[str, Template] = {
    "gsm8k_hash": Template(messages=_gsm8k_hash, judge="strict", headline="strict"),
    "boxed": Template(messages=_boxed, judge="boxed", headline="boxed_symbolic"),
    "natural": Template(messages=_natural, judge="flexible", headline="flexible"),
}


def template_named(name: str) -> Template:
    """Returns the template of that name; ConfigError with the choices if there is none."""
    if name not in TEMPLATES:
        raise ConfigError(
            f"data.template={name}: no such template; choose from {', '.join(TEMPLATES)}"
        )
    return TEMPLATES[name]
