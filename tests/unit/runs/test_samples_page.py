"""The page of samples: what is in the file, and, where there is a browser, what it shows."""

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylora_rl.runs import samples_page
from tinylora_rl.runs.samples_page import VERDICTS, records_from_validation, write_samples_page

TEMPLATE = Path(samples_page.__file__).with_suffix(".html").read_text(encoding="utf-8")
HOSTILE = [
    "</script><script>document.title = 'owned'</script>",
    "</SCRIPT ><img src=x onerror=\"document.title='owned'\">",
    "<!-- <script>",
    "--> ]]> <style>*{display:none}</style>",
    "\u2028 \u2029 \x00 \x85 \ud800 alone, \udfff too",
    "\u202ereversed",
    "{{records}} {{title}} $& \\u003c \\ \" '",
    "",
]


class Parsed(HTMLParser):
    """The elements of a page, the inside of its scripts and what its title element says."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.title = ""
        self._inside = ""
        self.feed(path.read_bytes().decode("utf-8"))
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside == "title":
            self.title += data

    @property
    def records(self) -> list[dict]:
        return json.loads(self.scripts[0])


def record(index: int = 0, policy: str = "base", response: str = "so it is 72", **others) -> dict:
    verdicts = others.pop("verdicts", {"strict": "right", "flexible": "right"})
    judged = {name: {"verdict": verdict, "answer": "72"} for name, verdict in verdicts.items()}
    return {
        "benchmark": "math500",
        "policy": policy,
        "question": "How many?",
        "response": response,
        "index": index,
        "judged": judged,
        "sample": 0,
        "greedy": True,
        "gold": "72",
        "response_tokens": 5,
        "truncated": False,
        **others,
    }


@pytest.fixture(scope="module")
def tags_of_any_page(tmp_path_factory) -> list[str]:
    path = tmp_path_factory.mktemp("page") / "samples.html"
    return Parsed(write_samples_page([record()], path, title="t")).tags


def test_the_page_holds_the_records(tmp_path):
    records = [record(0), record(1, "u13", step=20), record("algebra/7", greedy=None, sample=3)]
    path = write_samples_page(iter(records), tmp_path / "new" / "samples.html", title="A & B <c>")
    assert path == tmp_path / "new" / "samples.html"
    assert Parsed(path).records == records
    assert Parsed(path).title == "A & B <c>"


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_data(tmp_path, tags_of_any_page, text):
    judged = {text: {"verdict": "wrong", "answer": text}}
    records = [record(text, text, text, question=text, gold=text, benchmark=text, judged=judged)]
    page = write_samples_page(records, tmp_path / "samples.html", title=text)
    assert Parsed(page).tags == tags_of_any_page
    assert Parsed(page).records == records
    # HTMLParser is kinder than a browser; these are what could end or bend a script element
    assert Parsed(page).scripts[0].isascii()
    assert not {"<", ">", "&"} & set(Parsed(page).scripts[0])


# st.text() is without surrogates: JSON cannot tell two adjacent halves from the whole character
TEXTS = st.lists(st.text() | st.sampled_from(HOSTILE) | st.just("<!--<script>")).map(" ".join)


@given(response=TEXTS, title=TEXTS)
def test_any_text_is_data(tmp_path_factory, tags_of_any_page, response, title):
    path = tmp_path_factory.getbasetemp() / "any.html"
    page = Parsed(write_samples_page([record(response=response)], path, title=title))
    assert page.records[0]["response"] == response
    assert page.tags == tags_of_any_page


def test_keys_that_the_page_does_not_know_are_left_out(tmp_path):
    path = write_samples_page([record(prompt_ids=[1, 2])], tmp_path / "samples.html", title="t")
    assert Parsed(path).records == [record()]


def test_a_page_appears_whole_or_not_at_all(tmp_path):
    path = write_samples_page([record()], tmp_path / "samples.html", title="first")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_samples_page([record(), record(step=float("nan"))], path, title="second")
    assert path.read_bytes() == before
    write_samples_page([], path, title="third")
    assert Parsed(path).records == []
    assert [file.name for file in tmp_path.iterdir()] == ["samples.html"]


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ({"question": None}, r"record=1: question=None is not text; give a str"),
        ({"judged": {"strict": {"verdict": "maybe"}}}, r"record=1: strict='maybe': no such verd.*"),
    ],
)
def test_a_record_that_cannot_be_shown_is_refused(tmp_path, broken, message):
    with pytest.raises(ValueError, match=message):
        write_samples_page([record(), record() | broken], tmp_path / "samples.html", title="t")
    incomplete = record()
    del incomplete["judged"]
    with pytest.raises(ValueError, match=r"record=0: no key 'judged'; give benchmark, policy"):
        write_samples_page([incomplete], tmp_path / "samples.html", title="t")
    assert not list(tmp_path.iterdir())


def test_the_page_knows_the_verdicts_and_asks_for_nothing():
    for verdict in VERDICTS:
        assert f"{verdict}: [" in TEMPLATE
        assert f".chip.{verdict} " in TEMPLATE
    assert "default-src 'none'" in TEMPLATE
    for word in ("http:", "https:", "src=", "url(", "@import", "fetch(", "innerHTML", "eval("):
        assert word not in TEMPLATE


# ---- verl's validation dump ---------------------------------------------------------------------


def row(question: str, step: int, *, acc: float = 0.0, **others) -> dict:
    return {
        "input": f"user\n{question}\nassistant\n",
        "output": "a\u2028b",
        "gts": "72",
        "score": acc,
        "step": step,
        "reward": acc,
        "acc": acc,
        "strict": acc,
        "flexible": 1.0,
        "length_share": 0.25,
        "grade_s": 0.0,
        "no_answer": 0.0,
        "uid": "0f_0_0",
        **others,
    }


def dump(folder: Path, step: int, rows: list[dict], torn: str = "") -> Path:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    path = folder / f"{step}.jsonl"
    path.write_text("".join(lines) + torn, encoding="utf-8", newline="\n")
    return path


def test_a_validation_dump_becomes_records(tmp_path):
    dump(tmp_path, 0, [row("q1", 0), row("q2", 0, acc=1.0), row("q1", 0, no_answer=1.0)])
    dump(tmp_path, 10, [row("q2", 10, timed_out=1.0)], torn='{"input": "us')
    dump(tmp_path, 2, [row("q2", 2, acc=1.0), row("q3", 2, greedy=1, response_tokens=9)])
    records = records_from_validation(tmp_path, benchmark="gsm8k", policy="u13")
    assert [(r["step"], r["index"], r["sample"]) for r in records] == [
        (0, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
        (2, 1, 0),
        (2, 2, 0),
        (10, 1, 0),
    ]
    assert records[0] == {
        "benchmark": "gsm8k",
        "policy": "u13",
        "step": 0,
        "index": 0,
        "sample": 0,
        "greedy": None,
        "question": "user\nq1\nassistant\n",
        "gold": "72",
        "response": "a\u2028b",
        "response_tokens": None,
        "truncated": None,
        "judged": {
            "acc": {"verdict": "wrong", "answer": None},
            "strict": {"verdict": "wrong", "answer": None},
            "flexible": {"verdict": "right", "answer": None},
        },
    }
    verdicts = [[judged["verdict"] for judged in r["judged"].values()] for r in records]
    assert verdicts == [
        ["wrong", "wrong", "right"],
        ["right", "right", "right"],
        ["no_answer", "wrong", "right"],
        ["right", "right", "right"],
        ["wrong", "wrong", "right"],
        ["timed_out", "timed_out", "right"],
    ]
    assert (records[4]["greedy"], records[4]["response_tokens"]) == (True, 9)
    page = write_samples_page(records, tmp_path / "samples.html", title="t")
    assert Parsed(page).records == records


def test_one_file_without_acc_is_judged_by_its_score(tmp_path):
    rows = [{"input": "q", "output": "o", "gts": None, "score": s, "step": 3} for s in (1.0, 0.1)]
    records = records_from_validation(dump(tmp_path, 3, rows))
    assert [r["judged"] for r in records] == [
        {"score": {"verdict": verdict, "answer": None}} for verdict in ("right", "wrong")
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"samples=.*: no <step>\.jsonl; point it at the samples folder"),
        ("not json\n", r"0\.jsonl line 1: not JSON .*; give a file that verl's validation wrote"),
        ('{"input": "q"}\n', r"line 1: not an object with gts, input, output, score, step; give"),
        ("5\n", r"line 1: not an object with"),
        ('{"question": "q"}', r"line 1: no end of line; give"),
    ],
)
def test_what_is_no_dump_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "0.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        records_from_validation(tmp_path)
    assert "\n" not in str(error.value)


# ---- in a browser -------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A function: the filters in the hash -> the document as the browser has it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser: install one of {', '.join(BROWSERS)}")
    folder = tmp_path_factory.mktemp("browser")
    right, wrong, none = (
        {"strict": strict, "flexible": flexible}
        for strict, flexible in (("right", "right"), ("wrong", "right"), ("no_answer", "wrong"))
    )
    # --dump-dom itself dies of half a surrogate pair in the document
    texts = [text.encode(errors="replace").decode() for text in HOSTILE]
    records = [record(i, "u13", f"<b>needle</b> {text}") for i, text in enumerate(texts)]
    records += [record(i, verdicts=right if i < 5 else wrong) for i in range(len(texts))]
    records += [record(100 + i, verdicts=none, truncated=True) for i in range(60)]
    page = write_samples_page(records, folder / "samples.html", title=HOSTILE[0])

    def document(filters: str) -> str:
        options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'u'}"]
        return subprocess.run(
            [browser, *options, "--dump-dom", f"{page.as_uri()}#{filters}"],
            capture_output=True,
            check=True,
            timeout=60,
            encoding="utf-8",
        ).stdout

    return document


@pytest.mark.parametrize(
    ("filters", "status", "num_cards"),
    [
        ("", "76 responses to 68 questions", 50),
        ("page=2", "76 responses to 68 questions", 18),
        ("judges=disagree", "3 of 76 responses, 3 of 68 questions", 3),
        ("judges=differ", "63 of 76 responses, 63 of 68 questions", 50),
        ("policies=better&verdict=right", "3 of 76 responses, 3 of 68 questions", 3),
        ("policies=worse", "0 of 76 responses, 0 of 68 questions", 0),
        ("policies=differ", "6 of 76 responses, 3 of 68 questions", 3),
        ("policy=u13&q=NEEDLE%3C/B%3E", "8 of 76 responses, 8 of 68 questions", 8),
        ("truncated=1&judge=flexible&verdict=wrong", "60 of 76 responses, 60 of 68 questions", 50),
        ("verdict=%3Cimg%3E&bogus=1", "76 responses to 68 questions", 50),
    ],
)
def test_filters_in_the_hash_select(shown, filters, status, num_cards):
    document = shown(filters)
    assert f'role="status">{status}</span>' in document
    assert document.count("<article") == num_cards
    assert "<img" not in document
    assert "<b>needle" not in document
    assert "<title>&lt;/script&gt;&lt;script&gt;document.title = 'owned'" in document
