"""The names of adapters on the command line; a run directory is its newest adapter."""

import shutil

import pytest

from tinylora_rl.serving.admission import open_named


@pytest.fixture(scope="module")
def home(tmp_path_factory, adapters):
    home = tmp_path_factory.mktemp("home")
    for folder in ("first/adapter", "second/adapter", "a=b", "bad name"):
        shutil.copytree(adapters["one"], home / folder)
    return home


def directories(entries, reserved=()):
    return {name: adapter.directory for name, adapter in open_named(entries, reserved).items()}


def test_directories_runs_and_given_names(home):
    given = [f"{home}/first", f"chosen={home}/first/adapter", f"{home}/second/adapter"]
    assert directories(given, reserved=()) == {
        "first": home / "first" / "adapter",
        "chosen": home / "first" / "adapter",
        "second": home / "second" / "adapter",
    }


def test_a_folder_with_an_equals_sign_is_a_folder(home):
    with pytest.raises(ValueError, match="is no name for an adapter"):
        open_named([f"{home}/a=b"], reserved=())
    assert directories([f"c={home}/a=b"], reserved=()) == {"c": home / "a=b"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (["{home}/nowhere"], "no such folder"),
        (["owner/name"], "hf download"),
        (["{home}/first", "{home}/first/adapter"], "is called first, too"),
        (["base={home}/first"], "something else served here"),
        (["{home}/bad name"], "is no name"),
        (["../x={home}/first"], "is no name"),
        ([".x={home}/first"], "is no name"),
    ],
)
def test_what_cannot_be_meant_is_refused(home, given, reason):
    with pytest.raises(ValueError, match=reason):
        open_named([entry.format(home=home) for entry in given], reserved=("base",))
