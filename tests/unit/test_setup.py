"""scripts/setup.sh: which Python it takes, where torch comes from, and its one-line errors."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = [
    "sh",
    "cat",
    "cksum",
    "cp",
    "dirname",
    "grep",
    "ls",
    "mkdir",
    "mktemp",
    "rm",
    "sed",
    "sort",
]
TORCH = "torch-2.13.0+cpu-cp313-cp313-manylinux_2_28_{}.whl"

# A Python that writes down its calls. It fits, and has venv and pip, as its variables say.
PYTHON = """#!/bin/sh
echo "{name} $*" >>"$CALLS"
case "$*" in
*"sys.version_info <"*) exit {is_unfit} ;;
*"import ensurepip"*) exit {lacks_venv} ;;
"-m venv"*)
    for folder; do :; done
    mkdir -p "$folder/bin"
    cp "$0" "$folder/bin/python"
    cp "$STUBS/uv-of-venv" "$folder/bin/uv"
    ;;
*"cp%d%d"*) echo cp313 ;;
"-m pip config list") echo "global.find-links='$WHEELS'" ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >>"$CALLS"
case "$*" in
"python install"*) exit {fails} ;;
"python find"*) echo "$STUBS/managed" ;;
esac
"""


class Machine:
    """A PATH with a few plain tools and the stubs of a test."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.stubs = folder / "bin", folder / "stubs"
        self.wheels, self.calls = folder / "wheels", folder / "calls"
        self.venv = folder / "venv"
        for made in (self.bin, self.stubs, self.wheels):
            made.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.script(self.stubs / "uv-of-venv", UV.format(fails=0))
        self.is_a("x86_64")

    def script(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def is_a(self, machine: str, system: str = "Linux") -> None:
        self.script(
            self.bin / "uname",
            f"#!/bin/sh\ncase $1 in -s) echo {system} ;; -m) echo {machine} ;; esac\n",
        )

    def has_python(self, name: str, *, fits: bool = True, venv: bool = True) -> None:
        folder = self.stubs if name == "managed" else self.bin
        text = PYTHON.format(name=name, is_unfit=int(not fits), lacks_venv=int(not venv))
        self.script(folder / name, text)

    def has_uv(self, *, fetches: bool) -> None:
        self.script(self.bin / "uv", UV.format(fails=int(not fetches)))
        self.has_python("managed")

    def setup(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / "sh", ROOT / "scripts" / "setup.sh", self.venv, *arguments],
            env={
                "PATH": str(self.bin),
                "CALLS": str(self.calls),
                "STUBS": str(self.stubs),
                "WHEELS": str(self.wheels),
                "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def lines(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def maker(self) -> str:
        """The Python that made the environment."""
        (made,) = {line.split()[0] for line in self.lines() if str(self.venv) in line.split()}
        return made


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        (["python3.11", "python3.12", "python3.13"], "python3.11"),
        (["python3.13", "python3.12"], "python3.12"),
        (["python3.13"], "python3.13"),
        (["python3"], "python3"),  # a bare Debian or Ubuntu
    ],
)
@pytest.mark.parametrize("processor", ["x86_64", "aarch64"])
def test_takes_the_first_python_that_fits(machine, pythons, taken, processor):
    machine.is_a(processor)
    for name in pythons:
        machine.has_python(name)
    result = machine.setup("cpu")
    assert result.returncode == 0, result.stderr
    assert machine.maker() == taken


def test_passes_over_a_python_that_does_not_fit(machine):
    machine.has_python("python3.11", fits=False)
    machine.has_python("python3")
    assert machine.setup("cpu").returncode == 0
    assert machine.maker() == "python3"


def test_asks_uv_for_a_python_where_none_fits(machine):
    machine.has_python("python3", fits=False)
    machine.has_uv(fetches=True)
    result = machine.setup("cpu")
    assert result.returncode == 0, result.stderr
    assert "asking uv for one" in result.stderr
    assert machine.maker() == "managed"


def test_gets_uv_by_an_unfit_python_where_there_is_none(machine):
    machine.has_python("python3", fits=False)
    machine.has_python("managed")
    result = machine.setup("cpu")
    assert result.returncode == 0, result.stderr
    assert machine.maker() == "managed"


@pytest.mark.parametrize("has_python3", [False, True])
def test_says_what_to_install_where_uv_fetches_none(machine, has_python3):
    if has_python3:
        machine.has_python("python3", fits=False)
    machine.has_uv(fetches=False)
    result = machine.setup("cpu")
    assert result.returncode == 3
    *_, error = result.stderr.splitlines()
    assert error.startswith("setup: uv could not fetch one; install Python 3.11, 3.12 or 3.13")
    assert "apt-get install python3 python3-venv" in error


@pytest.mark.parametrize(
    ("arrange", "variables", "message"),
    [
        (lambda m: m.has_python("python3", venv=False), {}, "apt-get install python3-venv"),
        (
            lambda m: m.has_python("python3.9", fits=False),
            {"PYTHON": "python3.9"},
            "PYTHON=python3.9 is not Python 3.11, 3.12 or 3.13",
        ),
        (lambda m: m.is_a("arm64", "Darwin"), {}, "Linux on x86-64 or arm64"),
        (lambda m: m.is_a("riscv64"), {}, "Linux on x86-64 or arm64"),
    ],
)
def test_says_in_one_line_what_is_missing(machine, arrange, variables, message):
    arrange(machine)
    result = machine.setup("cpu", **variables)
    assert result.returncode == 3
    (line,) = result.stderr.splitlines()
    assert message in line
    assert not machine.venv.exists()


@pytest.mark.parametrize(
    ("wheels_for", "source"),
    [
        ("x86_64", "--find-links {wheels}"),
        ("aarch64", "--torch-backend cpu"),  # a wheel for another processor
        (None, "--torch-backend cpu"),
    ],
)
def test_torch_comes_from_a_folder_with_the_wheel_or_from_pytorch(machine, wheels_for, source):
    machine.has_python("python3.13")
    if wheels_for:
        (machine.wheels / TORCH.format(wheels_for)).touch()
    assert machine.setup("cpu").returncode == 0
    (install,) = [line for line in machine.lines() if "requirements/cpu.txt" in line]
    assert install.endswith(source.format(wheels=machine.wheels))
    assert "--no-deps" in install


def test_an_environment_that_is_up_to_date_is_left_alone(machine):
    machine.has_python("python3.13")
    assert machine.setup("cpu", "dev").returncode == 0
    machine.calls.unlink()
    result = machine.setup("cpu")  # dev holds all of it
    assert (result.returncode, result.stdout) == (0, "")
    assert not any("pip install" in line for line in machine.lines())
    assert "another platform's packages" in machine.setup("gpu").stderr
