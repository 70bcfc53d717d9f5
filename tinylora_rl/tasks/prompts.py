r"""Named prompt templates: question -> chat messages, and the judge that reads the answers.

| name | judge | source |
|---|---|---|
| `gsm8k_hash` | `strict` | verl's `examples/data_preprocess/gsm8k.py`: the answer after `####` |
| `boxed` | `boxed` | SimpleRL-Zoo's `qwen-boxed`: system message, the answer in `\boxed{}` |
| `natural` | `flexible` | zero-shot chain of thought (Kojima et al., arXiv 2205.11916) |

`natural` is `gsm8k_hash` without the demand for a format. Both carry no system message, as in verl;
Qwen2.5's chat template then adds its own.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tinylora_rl.errors import ConfigError
from tinylora_rl.tasks.row import Message

QUESTION = "{question}"


@dataclass(frozen=True, kw_only=True)
class Template:
    """A prompt, and the names of the judges that find the answer where the prompt asks for it.

    `judge` is for rewards, by exact match; `headline` for tables, where the field's graders accept
    what is mathematically equal.
    """

    user: str  # with QUESTION in it
    system: str | None = None
    judge: str
    headline: str

    def __call__(self, question: str) -> list[Message]:
        system = [] if self.system is None else [Message(role="system", content=self.system)]
        return [*system, Message(role="user", content=self.user.replace(QUESTION, question))]


TEMPLATES: dict[str, Template] = {
    "gsm8k_hash": Template(
        user='{question} Let\'s think step by step and output the final answer after "####".',
        judge="strict",
        headline="strict",
    ),
    "boxed": Template(
        system="You are a helpful assistant.",
        user="{question}\n"
        r"Please reason step by step, and put your final answer within \boxed{}.",
        judge="boxed",
        headline="boxed_symbolic",
    ),
    "natural": Template(
        user="{question} Let's think step by step.", judge="flexible", headline="flexible"
    ),
}


def template_named(name: str) -> Template:
    """Returns the template of that name; ConfigError with the choices if there is none."""
    if name not in TEMPLATES:
        raise ConfigError(f"data.template={name}: choose from {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def template_in_file(file: Path) -> Callable[[str], list[Message]]:
    """Returns a function that puts a question in the place of `{question}` in a file.

    A text file is the user's message, a .json file a list of {"role": ..., "content": ...}.

    Raises:
        ConfigError: the file is not readable, or does not have `{question}` once.
    """
    place = f"data.prompt={file}"
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{place}: not readable ({error}); give a text file") from error
    messages = [Message(role="user", content=text.strip())]
    if file.suffix == ".json":
        try:
            messages = [
                Message(role=str(message["role"]), content=str(message["content"]))
                for message in json.loads(text)
            ]
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(
                f"{place}: not a JSON list of messages; write "
                '[{"role": "user", "content": "... {question} ..."}]'
            ) from error
    count = sum(message["content"].count(QUESTION) for message in messages)
    if count != 1:
        raise ConfigError(f"{place}: has {QUESTION} {count} times; put it where the question goes")
    return lambda question: [
        Message(role=message["role"], content=message["content"].replace(QUESTION, question))
        for message in messages
    ]
