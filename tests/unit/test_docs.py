"""README and docs: links, paths and commands exist; the file of each how-to page works."""

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import yaml

from tinylora_rl.methods import METHODS
from tinylora_rl.rewards import JUDGES, compute_score
from tinylora_rl.settings.compose import RENAMED, SAME, compose, config_dir, verl_config_dir
from tinylora_rl.settings.evaluation import read_evaluation
from tinylora_rl.settings.experiment import read
from tinylora_rl.sweeps.points import expand, load_study
from tinylora_rl.tasks import TASKS, ask
from tinylora_rl.training.preflight import check_model

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*FRONT, *sorted(DOCS.rglob("*.md"))]
FOLDERS = ("docker", "recipes", "requirements", "scripts")
READMES = [page for folder in FOLDERS for page in sorted(ROOT.glob(f"{folder}/**/README.md"))]
WITH_COMMANDS = [*PAGES, *READMES]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HYDRA = ("train", "sft", "evaluate", "doctor")
TOP = "tests|scripts|configs|recipes|docs|docker|requirements|tinylora_rl"


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


# -- text ------------------------------------------------------------------------------------------


def test_the_readme_is_one_screen():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) < 1500
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_lines_and_sentences_are_short(page):
    lines = prose(page).splitlines()
    flowing = [line for line in lines if not line.startswith(("|", "![", "#"))]
    assert not [line for line in flowing if len(line) > 100]
    paragraphs = re.split(r"\n\s*\n|\n(?=- |\d\. )|\|", "\n".join(flowing))
    sentences = [
        sentence
        for paragraph in paragraphs
        for sentence in re.split(r"(?<=[.:;?!])[\"')`*]*\s+", " ".join(paragraph.split()))
    ]
    assert not [sentence for sentence in sentences if len(sentence.split()) > 30]


# -- links and paths -------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor and found.name != "security.md":  # that page is SECURITY.md, included
            assert anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_named_files_exist(page):
    text = prose(page)
    for path in re.findall(rf"`((?:{TOP})/[\w./-]+)`", text):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"`(\w+/[\w/]+\.py)`", text):
        assert (ROOT / path).exists() or (ROOT / "tinylora_rl" / path).exists(), path
    tests = {file.name for file in ROOT.glob("tests/**/*.py")}
    assert set(re.findall(r"`(test_\w+\.py)`", text)) <= tests


@pytest.mark.parametrize("page", [ROOT / "CONTRIBUTING.md", DOCS / "design.md"], ids=name_of)
def test_every_package_has_a_layer_in_the_table(page):
    rows = [line for line in page.read_text().splitlines() if line.startswith("|")]
    named = set(re.findall(r"`(\w+)/?`", "\n".join(rows)))
    packages = {path.stem for path in (ROOT / "tinylora_rl").iterdir()} - {"__init__"}
    assert {name for name in packages if not name.startswith("_") and name != "configs"} <= named


def test_every_page_is_in_the_site():
    def files(node: object) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        for child in node.values() if isinstance(node, dict) else node:
            if child is not node and not isinstance(node, str):
                yield from files(child)

    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = sorted(files(site["nav"]))
    assert named == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_every_metric_is_listed():
    page = (DOCS / "metrics.md").read_text()
    source = "".join(file.read_text() for file in (ROOT / "tinylora_rl").rglob("*.py"))
    names = set(re.findall(r'"((?:tinylora|sync|reward|signal|group)/[\w/]+)"', source))
    assert len(names) > 20
    assert not {name for name in names if f"`{name}`" not in page}


def test_old_spellings_are_listed():
    page = (DOCS / "configuration.md").read_text()
    for old, new in {**RENAMED, **SAME}.items():
        assert re.search(rf"^\| `{re.escape(old)}`.* \| `{re.escape(new)}` \|$", page, re.MULTILINE)


@pytest.mark.parametrize("group", ["model", "device", "adapter", "sync", "placement", "data"])
def test_choices_of_a_group_are_listed(group):
    page = (DOCS / "configuration.md").read_text()
    row = re.search(rf"^\| `{group}=` \|(.*)\|$", page, flags=re.MULTILINE)
    assert row is not None
    for file in (config_dir() / group).glob("*.yaml"):
        name = re.sub(r"^(qwen2\.5)(_\d.*)$", r"\2", file.stem)
        is_alias = re.search(r"_u\d", name)  # a size under a name of its own, for recipes
        assert is_alias or f"{name}`" in row[1], name


# -- commands --------------------------------------------------------------------------------------


def commands(*pages: Path) -> list[tuple[str, str]]:
    """(module, arguments) of every `python -m tinylora_rl...` line, each once."""
    found = {}
    for page in pages:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                match = re.search(r"python -m tinylora_rl\.(\w+)(.*)", line)
                is_study = "sweep=" in line and page in READMES  # tests/unit/recipes has all points
                if match and not is_study and "$" not in line:
                    words = shlex.split(match[2], comments=True)
                    found[match[1], shlex.join(words)] = None
    return list(found)


COMMANDS = commands(*(page for page in WITH_COMMANDS if page.parent != DOCS / "how_to"))


def overrides_of(words: list[str]) -> list[str]:
    """Overrides of a command line; with `-m`, of the sweep's first point."""
    overrides = []
    for word in words:
        key, _, value = word.partition("=")
        if key.startswith("hydra/"):
            assert (config_dir() / key / f"{value}.yaml").exists() or value == "submitit_slurm"
        elif key == "sweep":
            overrides += expand(load_study(value, "train"))[0]
        elif word not in ("-m", "--cfg", "job"):
            is_list = value.startswith("[")
            overrides.append(word if is_list or "-m" not in words else word.split(",")[0])
    return overrides


@pytest.mark.parametrize(
    ("module", "arguments"), [command for command in COMMANDS if command[0] in HYDRA]
)
def test_a_command_with_overrides_is_accepted(module, arguments):
    words = shlex.split(arguments)
    config = compose({"doctor": "train"}.get(module, module), overrides_of(words))
    (read_evaluation if module == "evaluate" else read)(config)


@pytest.mark.parametrize(
    ("module", "arguments"), [command for command in COMMANDS if command[0] not in HYDRA]
)
def test_a_command_with_options_parses(module, arguments, monkeypatch):
    def refuse(self: argparse.ArgumentParser, message: str) -> None:
        raise AssertionError(message)

    monkeypatch.setattr(argparse.ArgumentParser, "error", refuse)
    importlib.import_module(f"tinylora_rl.{module}")._parser().parse_args(shlex.split(arguments))


def test_every_command_is_shown():
    assert {module for module, _ in COMMANDS} >= {
        *HYDRA,
        *("report", "serve", "adapters"),
    }


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
def test_make_and_scripts_exist(page):
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for block in blocks(page, "bash"):
        assert set(re.findall(r"^make (\w[\w-]*)", block, flags=re.MULTILINE)) <= targets
        for script in re.findall(r"(?:^|[\s(])(scripts/[\w./-]+)", block):
            assert (ROOT / script).exists(), script


# -- how to add ------------------------------------------------------------------------------------


@pytest.fixture
def file_of(tmp_path, monkeypatch):
    """Writes the file of a how-to page where a user would; forgets what it registered."""
    monkeypatch.chdir(tmp_path)
    before = [(registry, dict(registry)) for registry in (TASKS, METHODS, JUDGES)]

    def write(page: str, language: str, name: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(blocks(DOCS / "how_to" / page, language)[0])
        return name

    yield write
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


def test_a_task_of_one_file_is_asked_and_graded(file_of):
    file = file_of("add_task.md", "python", "parity.py")
    (train, words), (evaluate, benchmark) = commands(DOCS / "how_to" / "add_task.md")
    assert f"plugins=[{file}]" in words
    experiment = read(compose(train, overrides_of(shlex.split(words))))
    evaluation = read_evaluation(compose(evaluate, overrides_of(shlex.split(benchmark))))
    assert set(evaluation.benchmarks) == {"parity"}
    task = experiment.task
    assert (task.name, len(task.rows("train")), len(task.rows("test", 3))) == ("parity", 512, 3)
    assert experiment.grading.judge == "flexible"
    row = task.rows("train")[7]
    assert ask(row, experiment.base.tokenizer)
    for response, score in (("the remainder is 1", 1.0), ("it is 0", 0.0)):
        graded = compute_score(
            row["data_source"],
            response,
            row["reward_model"]["ground_truth"],
            row["extra_info"],
            judge=task.judge,
        )
        assert graded["score"] == score


def test_a_judge_of_one_file_pays(file_of):
    file = file_of("add_judge.md", "python", "letter.py")
    ((command, words),) = commands(DOCS / "how_to" / "add_judge.md")
    assert f"plugins=[{file}]" in words
    experiment = read(compose(command, overrides_of(shlex.split(words))))
    (line,) = blocks(DOCS / "how_to" / "add_judge.md", "json")
    Path("quiz.jsonl").write_text("".join(line.replace("2 +", f"{n} +") for n in range(40)))
    assert len(experiment.task.rows("train")) == 36
    kwargs = experiment.for_verl().reward.custom_reward_function.reward_kwargs
    score = partial(compute_score, "quiz", ground_truth="b", **kwargs)
    assert experiment.grading.judge == "letter"
    assert score("Answer: A. No, Answer: B")["score"] == 1.0
    assert score("Answer: A")["score"] == 0.0
    assert score("b")["no_answer"] == 1.0


def test_a_method_of_one_file_is_counted_and_names_its_engine(file_of):
    file = file_of("add_method.md", "python", "norms.py")
    ((command, words),) = commands(DOCS / "how_to" / "add_method.md")
    assert f"plugins=[{file}]" in words
    experiment = read(compose(command, overrides_of(shlex.split(words))))
    size = experiment.method.size(experiment.base.dims)
    assert check_model(experiment) == f"{size.num_parameters} numbers of 7 norms"
    assert experiment.for_verl().actor_rollout_ref.model.model_type == "norms"


def test_a_model_is_one_file(file_of, tmp_path):
    file_of("add_model.md", "yaml", "model/smollm2_1.7b.yaml")
    ((_, words),) = commands(DOCS / "how_to" / "add_model.md")
    option, _, *overrides = shlex.split(words)
    assert option == "--config-dir"
    folders = f"hydra.searchpath=['file://{verl_config_dir()}','file://{tmp_path}']"
    experiment = read(compose("train", [folders, *overrides_of(overrides)]))
    assert experiment.base.id == "HuggingFaceTB/SmolLM2-1.7B-Instruct"
    assert experiment.batch.max_prompt_tokens == 512  # the recipe's, less than the model's


def test_the_places_of_a_sync_mode_are_there():
    page = prose(DOCS / "how_to" / "add_sync_mode.md")
    places = re.findall(r"^\| `(\S+)` \| `(\S+)` \|", page, flags=re.MULTILINE)
    assert len(places) > 5
    for file, name in places:
        assert name in (ROOT / file).read_text(), f"{file}: {name}"
