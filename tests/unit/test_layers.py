"""Imports run downward. The layers are DESIGN.md's: a room may know only rooms of lower layers."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "tinylora_rl"
LAYERS = {
    "errors": 0,
    "atomic": 0,
    "adapter": 1,
    "plugins": 1,
    "rewards": 2,
    "base_model": 2,
    "runs": 2,
    "tasks": 3,
    "artifact": 3,
    "methods": 4,
    "settings": 5,
    "vllm_plugin": 6,
    "verl_plugin": 7,
    "evaluation": 7,
    "serving": 7,
    "training": 8,
    "supervised": 9,
    "planning": 10,
    "studies": 10,
    "sweeps": 11,
    "command": 12,
    "train": 13,
    "evaluate": 13,
    "adapters": 13,
    "report": 13,
    "sft": 13,
    "serve": 13,
    "doctor": 13,
}
FORBIDDEN = {  # third parties that a package must not import
    "adapter": {"verl", "vllm", "ray", "hydra", "omegaconf", "transformers"},
    "plugins": {"torch", "verl", "vllm", "ray", "hydra", "omegaconf"},
    "rewards": {"torch", "verl", "vllm", "ray", "hydra", "omegaconf"},
    "tasks": {"verl", "vllm", "ray", "hydra", "omegaconf"},  # torch: its embedded model is made
    "base_model": {"verl", "vllm", "ray", "hydra", "omegaconf"},
    "artifact": {"verl", "vllm", "ray", "hydra", "omegaconf"},
    "methods": {"verl", "vllm", "ray", "hydra", "omegaconf"},
    "runs": {"torch", "verl", "vllm", "ray", "hydra", "omegaconf"},
    "settings": {"torch", "verl", "vllm", "ray"},
    "vllm_plugin": {"verl", "ray", "hydra", "omegaconf"},
    "evaluation": {"verl", "ray", "hydra", "omegaconf"},
    "serving": {"verl", "ray", "hydra", "omegaconf"},
    "training": {"vllm"},
    "supervised": {"vllm", "ray"},
    "planning": {"verl", "vllm", "ray"},
    "sweeps": {"torch", "verl", "vllm"},
    "studies": {"torch", "verl", "vllm", "ray", "hydra", "omegaconf"},
    "train": {"torch", "verl", "vllm", "ray"},
    "evaluate": {"torch", "verl", "vllm", "ray"},
    "adapters": {"verl", "vllm", "ray"},
    "report": {"torch", "verl", "vllm", "ray"},
    "sft": {"torch", "verl", "vllm", "ray"},
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
