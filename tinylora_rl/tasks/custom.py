"""A user's own data set: a JSON lines or parquet file, a folder of them, or a hub data set.

    data=custom data.path=FILE_OR_FOLDER_OR_HUB_ID data.question=COLUMN data.answer=COLUMN

Held out are, in this order: `test_path`; the split `test_split` of `path`; the file `test.jsonl` or
`test.parquet` of a folder; the last `test_rows` rows, which are then not trained on.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar

from tinylora_rl.errors import ConfigError
from tinylora_rl.rewards import JUDGES, Gold, judge
from tinylora_rl.tasks import gold
from tinylora_rl.tasks.prompts import template_in_file, template_named
from tinylora_rl.tasks.records import HubFiles, LocalPath, Record, Source, read_file
from tinylora_rl.tasks.row import Message, Row, make_row
from tinylora_rl.tasks.task import Split, Task, register_task

SUFFIXES = (".jsonl", ".parquet")
MAX_HELD_OUT = 256

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_FORMS = {"strict": "#### {}", "boxed": r"\boxed{{{}}}", "flexible": "{}"}
"""{extractor: the form of an answer in a response}."""


@register_task
@dataclasses.dataclass(frozen=True, kw_only=True)
class Custom(Task):
    r"""Questions and answers of a user's own.

    Attributes:
        path: a .jsonl or .parquet file, a folder with SPLIT.jsonl or SPLIT.parquet, or a hub id.
        question: the column with the question, a text.
        answer: the column with the answer: a text or a number. Of a worked text only what stands
            after the last `####` or in the last `\boxed{}` is the answer.
        worked: the column that supervised training imitates; None: `answer`.
        prompt: a text file with `{question}` in it, the user's message; or a .json file with a list
            of chat messages, one of which has `{question}` in it.
        template: a name of `prompts.TEMPLATES` in place of `prompt`. Without both, the question
            alone is the prompt.
        judge: reads the answers of the model; by default the template's, or else `flexible`, which
            takes the last number of a response.
        split: of a folder or hub data set, to train on.
        test_path: a file, folder or hub id with held-out rows.
        test_split: of a folder or hub data set, to hold out.
        test_rows: held out of the training rows where there is no test data; None: a tenth, 256 at
            most.
        subset: of a hub data set that has several.
        revision: of a hub data set, a commit of 40 digits; None: its newest.
    """

    name: ClassVar[str] = "custom"
    shares_path: ClassVar[bool] = False

    path: str | None = None
    question: str = "question"
    answer: str = "answer"
    worked: str | None = None
    prompt: str | None = None
    template: str | None = None
    judge: str = ""
    split: str = "train"
    test_path: str | None = None
    test_split: str | None = None
    test_rows: int | None = None
    subset: str | None = None
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.prompt is not None and self.template is not None:
            raise ConfigError(
                f"data.prompt={self.prompt}: data.template={self.template} is set, too; keep one"
            )
        asked = "flexible" if self.template is None else template_named(self.template).judge
        object.__setattr__(self, "judge", self.judge or asked)  # a frozen dataclass's own way
        if self.judge not in JUDGES:
            raise ConfigError(f"data.judge={self.judge}: choose from {', '.join(JUDGES)}")
        rows = self.test_rows
        if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
            raise ConfigError(f"data.test_rows={rows}: use a whole number of at least 1, or null")
        if self.revision is not None and not _COMMIT.fullmatch(str(self.revision)):
            raise ConfigError(
                f"data.revision={self.revision}: give a commit of 40 digits, or null for the newest"
            )

    @property
    def headline(self) -> str:
        template = template_named(self.template) if self.template else None
        return template.headline if template and self.judge == template.judge else self.judge

    @property
    def prompt_name(self) -> str | None:
        return self.template or (Path(self.prompt).name if self.prompt else None)

    def rows(self, split: Split, limit: int | None = None) -> list[Row]:
        self.check_split(split)
        to_prompt = self._prompt()
        records = enumerate(self._records(split))
        rows = [self._row(record, split, index, to_prompt) for index, record in records]
        return rows[:limit]

    def num_rows(self, split: Split) -> int | None:
        """Counts the rows of local files; None for a hub data set or files that are wrong."""
        try:
            is_local = isinstance(self._source(split), LocalPath)
            return len(self._records(split)) if is_local else None
        except ConfigError:  # `rows` raises it
            return None

    def sources(self, split: Split) -> tuple[Source, ...]:
        try:
            return (self._source(split),)
        except ConfigError:  # `rows` raises it
            return ()

    def _source(self, split: Split) -> Source:
        return (self._test_source() if split == "test" else None) or self._train_source()

    def _train_source(self) -> Source:
        if self.path is None:
            raise ConfigError(
                "data.path=null: give a .jsonl or .parquet file, a folder with them, or the id of "
                "a data set on the hub"
            )
        return self._find("path", self.path, self.split)

    def _test_source(self) -> Source | None:
        """Returns the source of held-out rows; None if they are the last training rows."""
        if self.test_path is not None:
            return self._find("test_path", self.test_path, self.test_split or "test")
        if self.path is None:
            return None
        folder = Path(self.path).expanduser()
        has_test = any((folder / f"test{suffix}").is_file() for suffix in SUFFIXES)
        split = self.test_split or ("test" if has_test else None)
        return self._find("path", self.path, split) if split else None

    def _find(self, key: str, path: str, split: str) -> Source:
        """Returns the file or hub split of `data.<key>=<path>`; ConfigError if none could be."""
        local = Path(path).expanduser().resolve()
        names = [f"{split}{suffix}" for suffix in SUFFIXES]
        if local.is_dir():
            files = [local / name for name in names if (local / name).is_file()]
            if files:
                return LocalPath(files[0])
            raise ConfigError(
                f"data.{key}={path}: no {' or '.join(names)} in that folder; name a file or a split"
            )
        if local.is_file() and local.suffix not in SUFFIXES:
            raise ConfigError(
                f"data.{key}={path}: not a {' or '.join(SUFFIXES)} file; convert it, for instance "
                "with to_json of a datasets.Dataset"
            )
        if local.is_file():
            return LocalPath(local)
        if local.suffix in SUFFIXES or not _HUB_ID.fullmatch(path):
            raise ConfigError(
                f"data.{key}={path}: no such file or folder, and not the id of a hub data set "
                "(OWNER/NAME); give one of them"
            )
        return HubFiles(
            repo=path, revision=self.revision, config=self.subset, split=split, given=path
        )

    def remarks(self) -> list[str]:
        if self._test_source() is not None:
            return []
        num_train, num_held_out = (len(self._records(split)) for split in ("train", "test"))
        return [
            f"data.path={self.path}: no test data given; the last {num_held_out} of "
            f"{num_train + num_held_out} rows are held out and not trained on (data.test_rows)"
        ]

    def _records(self, split: Split) -> list[Record]:
        source, test = self._source(split), self._test_source()
        records = list(_read(source))
        if not records:
            raise ConfigError(f"data.path={self.path}: no rows in {source}; give a file with rows")
        is_trained_on = split == "train" or self.test_path is None
        if test is not None and is_trained_on and test == self._train_source():
            raise ConfigError(
                f"data.path={self.path}: {source} would be trained on and held out; give another "
                "data.test_path or data.test_split, or data.test_rows alone"
            )
        if test is not None:
            return records
        num_held_out = self.test_rows or min(MAX_HELD_OUT, max(1, len(records) // 10))
        if num_held_out >= len(records):
            raise ConfigError(
                f"data.test_rows={num_held_out}: {source} has {len(records)} rows, none is left to "
                "train on; hold out fewer, or give data.test_path"
            )
        return records[:-num_held_out] if split == "train" else records[-num_held_out:]

    def _row(
        self, record: Record, split: str, index: int, to_prompt: Callable[[str], list[Message]]
    ) -> Row:
        question = self._text(record, "question", self.question)
        answer = self._text(record, "answer", self.answer, numbers=True)
        worked = self.worked and self._text(record, "worked", self.worked, numbers=True)
        right = Gold(answer=gold.of_worked(answer, record.place))
        reader = JUDGES[self.judge].extractor
        form = _FORMS.get(reader or "")
        if reader and form and judge(reader, form.format(right.answer), right).verdict != "right":
            raise ConfigError(
                f"{record.place}: data.judge={self.judge} cannot read the answer "
                f"{right.answer[:80]!r}; boxed reads any text, with a prompt that asks for "
                r"\boxed{}; choose it or a judge of your own, or drop that row"
            )
        return make_row(
            self.name,
            split,
            index,
            question=question,
            gold=right.answer,
            prompt=to_prompt(question),
            worked=worked or answer,
        )

    def _text(self, record: Record, key: str, column: str, *, numbers: bool = False) -> str:
        """Returns a column's text, or its number with all its digits if `numbers`."""
        values = record.values
        if not isinstance(values, dict) or column not in values:
            found = ", ".join(map(str, values)) if isinstance(values, dict) else "not an object"
            raise ConfigError(
                f"data.{key}={column}: no such column in {record.place}; choose from {found}"
            )
        value = values[column]
        text = gold.shortest_number(value) if numbers else None
        text = value if isinstance(value, str) else text
        if text is not None and text.strip():
            return text
        kind = "empty" if text is not None or value is None else "not text"
        kind += " and no finite number" if numbers and kind == "not text" else ""
        raise ConfigError(f"{record.place}: {column}={value!r} is {kind}; fix or drop that row")

    def _prompt(self) -> Callable[[str], list[Message]]:
        if self.template is not None:
            return template_named(self.template)
        if self.prompt is not None:
            return template_in_file(Path(self.prompt).expanduser())
        return lambda question: [Message(role="user", content=question)]


def _read(source: Source) -> Iterable[Record]:
    if isinstance(source, LocalPath):
        return read_file(source.path, f"data.path={source}")
    return source.records()
