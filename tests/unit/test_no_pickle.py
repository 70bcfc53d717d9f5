"""Nothing in this repository runs what a file says: no pickle, no eval, no unsafe loader."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tinylora_rl", "hydra_plugins", "scripts")
MODULES = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
CALLS = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {  # (object, attribute) of calls: the argument that makes it safe, as it is written
    ("torch", "load"): "weights_only=True",
    ("yaml", "load"): None,
    ("yaml", "load_all"): None,
    ("yaml", "full_load"): None,
    ("yaml", "unsafe_load"): None,
    ("np", "load"): "allow_pickle=False",
    ("numpy", "load"): "allow_pickle=False",
    ("os", "system"): None,
    ("os", "popen"): None,
}
ARGUMENTS = {"trust_remote_code": "False", "shell": "False"}
JUSTIFIED: dict[str, str] = {}  # "path: use": the reason


def unsafe_uses(source: str) -> list[str]:
    """What in the module could run what a file says."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if _root(alias.name) in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module and _root(node.module) in MODULES:
            found.append(node.module)
        elif isinstance(node, ast.Call):
            given = {ast.unparse(keyword) for keyword in node.keywords}
            function = node.func
            if isinstance(function, ast.Name) and function.id in CALLS:
                found.append(f"{function.id}()")
            elif isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
                use = (function.value.id, function.attr)
                if use in ATTRIBUTES and ATTRIBUTES[use] not in given:
                    found.append(f"{'.'.join(use)}()")
            for keyword in node.keywords:
                safe = ARGUMENTS.get(keyword.arg or "")
                if safe is not None and ast.unparse(keyword.value) != safe:
                    found.append(ast.unparse(keyword))
    return found


def _root(module: str) -> str:
    return module.partition(".")[0]


def test_nothing_here_runs_what_a_file_says():
    found = {
        f"{path.relative_to(ROOT)}: {use}"
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for use in unsafe_uses(path.read_text(encoding="utf-8"))
    }
    assert found == set(JUSTIFIED)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from dill import load",
        "eval(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "yaml.load(text, Loader)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "os.system(command)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_the_search_finds_what_it_looks_for(text):
    assert len(unsafe_uses(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "model.eval()",
        "torch.load(path, weights_only=True)",
        "yaml.safe_load(text)",
        "re.compile(text)",
        "AutoModel.from_pretrained(path, trust_remote_code=False)",
    ],
)
def test_the_search_leaves_what_is_safe(text):
    assert not unsafe_uses(text)
