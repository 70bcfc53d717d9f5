r"""Which questions of a test set a training set holds already, word for word or nearly.

Questions are compared as tokens: lower-case words, numbers and the signs that carry a formula
(+ - * / = < > ^ _ |). White space, punctuation, `$`, braces and LaTeX's spacing and sizing commands
make no difference, nor do Unicode's compatibility forms, `\dfrac` for `\frac`, 1,200 for 1200.

- exact: the same tokens.
- near: at least `threshold` (one half) of the distinct 8-grams of the test question's tokens are in
  one training question. Questions of fewer than 8 tokens can only be exact.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tinylora_rl.tasks.dataset import Row

Tokens = tuple[str, ...]

NGRAM = 8
THRESHOLD = 0.5

_SPACING = re.compile(
    r"\\(?:[,;:!> ]|q?quad(?![a-zA-Z])|(?:left|right|displaystyle)(?![a-zA-Z]))|~"
)
_FRACTION = re.compile(r"\\[dt]frac(?![a-zA-Z])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_]{2})")  # four-digit, not x-y
_TOKEN = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+|[-+*/=<>^_|]")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A test question and the training question that it is like; positions in the rows given."""

    train_index: int
    test_index: int
    train_question: str
    test_question: str
    share: float  # of the test question's 8-grams; 1 for exact pairs


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Each test question is in one pair at most: exact with its first copy, near with its likest.

    So the lengths of `exact` and `near` count test questions.
    """

    num_train: int
    num_test: int
    exact: tuple[Pair, ...]
    near: tuple[Pair, ...]


class Index:
    """Training questions, looked up by their tokens and by each of their 8-grams."""

    def __init__(self, train_rows: Sequence[Row]) -> None:
        self._questions = [row["extra_info"]["question"] for row in train_rows]
        self._tokens = [tokenize(question) for question in self._questions]
        self._first: dict[Tokens, int] = {}
        self._holders: defaultdict[Tokens, list[int]] = defaultdict(list)
        for index, tokens in enumerate(self._tokens):
            self._first.setdefault(tokens, index)
            for ngram in _ngrams(tokens):
                self._holders[ngram].append(index)

    def overlap(self, test_rows: Sequence[Row], *, threshold: float = THRESHOLD) -> Overlap:
        """Return the test rows whose question is among the training rows' (the module's rule).

        Takes time in proportion to the text, and to the occurrences of shared 8-grams.
        """
        exact: list[Pair] = []
        near: list[Pair] = []
        for index, row in enumerate(test_rows):
            question = row["extra_info"]["question"]
            tokens = tokenize(question)
            found, share = self._likest(tokens)
            if found is None or share < threshold:
                continue
            pair = Pair(
                train_index=found,
                test_index=index,
                train_question=self._questions[found],
                test_question=question,
                share=share,
            )
            (exact if tokens == self._tokens[found] else near).append(pair)
        return Overlap(
            num_train=len(self._questions),
            num_test=len(test_rows),
            exact=tuple(exact),
            near=tuple(near),
        )

    def _likest(self, tokens: Tokens) -> tuple[int | None, float]:
        """The first of the questions that hold most, and the share of 8-grams it holds."""
        if tokens and tokens in self._first:
            return self._first[tokens], 1.0
        ngrams = _ngrams(tokens)
        shared = Counter(holder for ngram in ngrams for holder in self._holders.get(ngram, ()))
        if not shared:
            return None, 0.0
        found, num_shared = min(shared.items(), key=lambda item: (-item[1], item[0]))
        return found, num_shared / len(ngrams)


def overlap(
    train_rows: Sequence[Row], test_rows: Sequence[Row], *, threshold: float = THRESHOLD
) -> Overlap:
    """`Index(train_rows).overlap(test_rows)`; keep the index to compare several test sets."""
    return Index(train_rows).overlap(test_rows, threshold=threshold)


def tokenize(question: str) -> Tokens:
    """Return what of a question is compared; see the module."""
    text = unicodedata.normalize("NFKC", question).replace("\N{MINUS SIGN}", "-")
    text = _FRACTION.sub(r"\\frac", _SPACING.sub(" ", text))
    text = _HYPHEN.sub(" ", _THOUSANDS.sub("", text))
    return tuple(_TOKEN.findall(text.casefold()))


def _ngrams(tokens: Tokens) -> set[Tokens]:
    return {tokens[start : start + NGRAM] for start in range(len(tokens) - NGRAM + 1)}
