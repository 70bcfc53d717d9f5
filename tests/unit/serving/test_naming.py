import pytest

from tinylora_rl.serving.naming import named_adapters


@pytest.fixture
def home(tmp_path):
    for run in ("first", "second"):
        (tmp_path / run / "adapter").mkdir(parents=True)
        (tmp_path / run / "adapter" / "manifest.json").touch()
    (tmp_path / "a=b").mkdir()
    (tmp_path / "bad name").mkdir()
    return tmp_path


def test_directories_runs_and_given_names(home):
    given = [f"{home}/first", f"chosen={home}/first/adapter", f"{home}/second/adapter"]
    assert named_adapters(given, reserved=()) == {
        "first": home / "first" / "adapter",
        "chosen": home / "first" / "adapter",
        "second": home / "second" / "adapter",
    }


def test_a_folder_with_an_equals_sign_is_a_folder(home):
    with pytest.raises(ValueError, match="is no name for an adapter"):
        named_adapters([f"{home}/a=b"], reserved=())
    assert named_adapters([f"c={home}/a=b"], reserved=()) == {"c": home / "a=b"}


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
        named_adapters([entry.format(home=home) for entry in given], reserved=("base",))
