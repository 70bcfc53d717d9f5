"""A user's own files and modules are imported once, and what is wrong with them is one line."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from omegaconf import OmegaConf

from tinylora_rl import plugins
from tinylora_rl.errors import ConfigError

COUNTING = """
import time
time.sleep(0.05)
with open({log!r}, "a") as file:
    file.write("x")

def double(number):
    return 2 * number
"""


@pytest.fixture(autouse=True)
def modules():
    """`sys.modules` as it was before."""
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def counting(tmp_path, monkeypatch):
    """(path of a plugin, function that says how often it ran)."""
    path, log = tmp_path / "my plugin.py", tmp_path / "log"
    path.write_text(COUNTING.format(log=str(log)))
    monkeypatch.chdir(tmp_path)
    return path, lambda: len(log.read_text())


def test_a_file_is_imported_once_however_its_path_is_written(counting):
    path, runs = counting
    plugins.load([str(path), path.name, f"./{path.name}"])
    plugins.load((str(path),))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(plugins.load, [[path.name]] * 8))
    assert runs() == 1


def test_threads_that_load_at_once_wait_for_the_whole_module(counting):
    path, runs = counting

    def load(_):
        plugins.load([str(path)])
        return plugin_of(path).double(2)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(load, range(8))) == [4] * 8
    assert runs() == 1


def plugin_of(path):
    (module,) = (
        module for module in list(sys.modules.values())
        if getattr(module, "__file__", None) == str(path)
    )  # fmt: skip
    return module


def test_functions_of_a_file_can_be_pickled(counting):
    path, _ = counting
    plugins.load([str(path)])
    double = plugin_of(path).double
    assert pickle.loads(pickle.dumps(double)) is double


def test_files_of_one_name_in_two_folders_are_two_plugins(tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(f"name = {folder!r}\n")
    plugins.load([str(tmp_path / "one/same.py"), str(tmp_path / "two/same.py")])
    assert [plugin_of(tmp_path / f"{folder}/same.py").name for folder in ("one", "two")] == [
        "one",
        "two",
    ]


def test_a_module_is_imported_by_its_name(tmp_path, monkeypatch):
    (tmp_path / "our_package").mkdir()
    (tmp_path / "our_package/plugin.py").write_text("ready = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.load(["our_package.plugin"])
    assert sys.modules["our_package.plugin"].ready


def test_relative_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert plugins.absolute(["a.py", "b/c.py", "package.module"]) == [
        str(tmp_path / "a.py"),
        str(tmp_path / "b/c.py"),
        "package.module",
    ]


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("absent.py", None, "plugins=absent.py: /.*/absent.py is no file; give the path"),
        ("bad.py", "\nx = \n", r"plugins=bad.py: SyntaxError: .*line 2\); fix the plugin"),
        ("bad.py", "\n\nnone[0]\n", r"NameError: name 'none' is not defined \(line 3\); fix"),
        ("bad.py", "raise ValueError('a\\nb')", r"plugins=bad.py: ValueError: a \(line 1\); fix"),
        ("bad.py", "import no_such", r"ModuleNotFoundError: No module named 'no_such' \(line 1"),
        ("no_such.module", None, "plugins=no_such.module: no such module; give the path of a .py"),
        (".relative", None, "plugins=.relative: TypeError: .*; fix the plugin"),
        ("needs_more", "import no_such", "plugins=needs_more: ModuleNotFoundError: No module"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, monkeypatch, name, source, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    if source is not None:
        (tmp_path / f"{name.removesuffix('.py')}.py").write_text(source)
    for _ in range(2):  # it is not half there the second time
        with pytest.raises(ConfigError, match=message) as caught:
            plugins.load([name])
        assert "\n" not in str(caught.value)


def test_a_plugin_that_was_fixed_is_imported(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="ZeroDivisionError"):
        plugins.load([str(path)])
    path.write_text("right = True  # now\n")
    plugins.load([str(path)])
    assert plugin_of(path).right


def test_a_registry_can_note_the_plugin_that_is_being_imported(tmp_path):
    (tmp_path / "inner.py").write_text(
        "from tinylora_rl import plugins\nname = plugins.current()\n"
    )
    (tmp_path / "outer.py").write_text(
        "from tinylora_rl import plugins\n"
        f"plugins.load([{str(tmp_path / 'inner.py')!r}])\n"
        "name = plugins.current()\n"
    )
    assert plugins.current() is None
    plugins.load([str(tmp_path / "outer.py")])
    for name in ("inner.py", "outer.py"):
        assert plugin_of(tmp_path / name).name == str(tmp_path / name)
    assert plugins.current() is None


def test_names_of_what_a_configuration_gives():
    assert plugins.names_of(None) == []
    assert plugins.names_of("mine.py") == ["mine.py"]
    assert plugins.names_of(OmegaConf.create(["a.py", "b"])) == ["a.py", "b"]
    for wrong in (3, True, [3], [None], [["a"]], {"a": "b"}):
        with pytest.raises(ConfigError, match=r"give a list of files or modules"):
            plugins.names_of(wrong)
