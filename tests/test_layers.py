"""Imports run downward. The layers are DESIGN.md's: a room may know only rooms of lower layers."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "tinylora_rl"
LAYERS = {
    "atomic": -1,
    "errors": -1,
    "adapter": 0,
    "rewards": 0,
    "data": 0,
    "artifact": 1,
    "arithmetic": 1,
    "runs": 1,
    "vllm_plugin": 2,
    "verl_plugin": 3,
    "evaluation": 3,
    "serving": 3,
    "launch": 4,
    "studies": 4,
    "train": 5,
    "evaluate": 5,
    "adapters": 5,
    "report": 5,
    "sft": 5,
    "serve": 5,
    "doctor": 5,
}
FORBIDDEN = {  # third parties that a room must not know
    "adapter": {"verl", "vllm", "ray", "hydra", "omegaconf", "transformers"},
    "rewards": {"torch", "verl", "vllm", "ray"},
    "data": {"torch", "verl", "vllm", "ray"},
    "artifact": {"verl", "vllm", "ray", "hydra", "omegaconf"},
    "arithmetic": {"verl", "vllm", "ray", "hydra", "omegaconf"},
    "runs": {"torch", "verl", "vllm", "ray", "hydra", "omegaconf"},
    "vllm_plugin": {"verl", "ray", "hydra", "omegaconf"},
    "evaluation": {"verl", "ray", "hydra", "omegaconf"},
    "serving": {"verl", "ray", "hydra"},
    "launch": {"vllm"},
    "evaluate": {"torch", "verl", "vllm", "ray"},
    "adapters": {"verl", "vllm", "ray"},
    "studies": {"torch", "verl", "vllm", "ray"},
    "report": {"torch", "verl", "vllm", "ray"},
    "sft": {"torch", "verl", "vllm", "ray"},
    "train": {"torch", "verl", "vllm", "ray"},
    "serve": {"verl", "ray", "hydra"},
    "doctor": {"torch", "verl", "vllm", "ray"},
}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_room_has_a_layer():
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == set(LAYERS)


def test_imports_run_downward():
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        if room == "__init__":
            continue
        for name in imports_of(path):
            parts = name.split(".")
            if (
                parts[0] == "tinylora_rl"
                and len(parts) > 1
                and parts[1] in LAYERS
                and parts[1] != room
            ):
                assert LAYERS[parts[1]] < LAYERS[room], (
                    f"{path.relative_to(PACKAGE)} imports {name}"
                )
            assert parts[0] not in FORBIDDEN.get(room, set()), (
                f"{path.relative_to(PACKAGE)} imports {name}"
            )


def test_modules_are_small():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
