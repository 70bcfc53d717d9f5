"""Images and compose file, as far as they can be checked without building them."""

import os
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLATFORMS = ("cpu", "gpu")
SECRETS = ("HF_TOKEN", "WANDB_API_KEY")


def instructions(platform: str) -> list[tuple[str, str]]:
    """(name, arguments) of a Dockerfile, continued lines joined, comments left out."""
    text = (ROOT / "docker" / f"Dockerfile.{platform}").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def arguments(platform: str, name: str) -> list[str]:
    return [rest for found, rest in instructions(platform) if found == name]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps `path` out of the image."""
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    parts = path.split("/")
    prefixes = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    return any(
        fnmatch(prefix, pattern) or fnmatch(f"x/{prefix}", pattern.replace("**/", "*/"))
        for prefix in prefixes
        for pattern in patterns
    )


@pytest.fixture(scope="module")
def compose() -> dict:
    return yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())


@pytest.mark.parametrize("platform", PLATFORMS)
def test_hadolint_has_nothing_to_say(platform):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    linter = shutil.which("hadolint", path=path)
    if linter is None:
        pytest.skip("no hadolint here: install requirements/dev.txt")
    file = ROOT / "docker" / f"Dockerfile.{platform}"
    result = subprocess.run(
        [linter, "--no-color", file], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_base_image_is_a_version_and_every_source_exists(platform):
    (base,) = arguments(platform, "FROM")
    assert re.search(r":\d+\.\d+", base), base
    for copy in arguments(platform, "COPY"):
        *sources, _ = copy.split()
        for source in sources:
            assert (ROOT / source).exists(), copy
            assert source == "." or not ignored(source), copy


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_image_installs_its_platforms_tested_pins(platform):
    runs = arguments(platform, "RUN")
    assert sum(f"scripts/setup.sh .venv {platform}" in run for run in runs) == 1
    assert (ROOT / "requirements" / f"{platform}.txt").exists()


def test_the_gpu_image_is_built_for_the_cuda_of_its_torch():
    """flash-attn is compiled with the image's compiler against the wheel's libraries."""
    (base,) = arguments("gpu", "FROM")
    image = re.search(r"cuda:(\d+\.\d+)\.", base)
    pins = (ROOT / "requirements" / "gpu.txt").read_text()
    runtime = re.search(r"^nvidia-cuda-runtime==(\d+\.\d+)\.", pins, flags=re.MULTILINE)
    assert image is not None
    assert runtime is not None
    assert image.group(1) == runtime.group(1)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_image_runs_as_a_user_and_holds_no_secret(platform):
    found = instructions(platform)
    names = [name for name, _ in found]
    assert found[-2] == ("USER", "1000")
    assert names[-1] == "CMD"
    assert "ARG" not in names  # what is given at build time stays in the image's history
    for value in arguments(platform, "ENV"):
        assert not re.search("TOKEN|KEY|SECRET|PASSWORD", value)


@pytest.mark.parametrize(
    ("path", "is_kept_out"),
    [
        (".git/config", True),
        (".venv/bin/python", True),
        ("runs/arithmetic_cpu/x/config.yaml", True),
        (".env", True),
        ("docker/.env", True),
        ("docker/.env.local", True),
        (".netrc", True),
        ("any/where/auth_token", True),
        ("tls/server.key", True),
        ("tinylora_rl/__pycache__/train.cpython-311.pyc", True),
        (".pytest_cache/v", True),
        ("tinylora_rl/train.py", False),
        ("configs/model/qwen2.5_7b.yaml", False),
        ("requirements/cpu.txt", False),
        ("recipes/README.md", False),
    ],
)
def test_what_is_kept_out_of_an_image(path, is_kept_out):
    assert ignored(path) is is_kept_out


def test_compose_builds_and_runs_both_images(compose):
    for service, platform in (("quickstart", "cpu"), ("train", "gpu")):
        built = compose["services"][service]
        assert built["build"]["dockerfile"] == f"docker/Dockerfile.{platform}"
        assert (ROOT / "docker" / built["build"]["context"]).resolve() == ROOT
        assert built["image"] == f"tinylora-rl:{platform}"
        assert built["shm_size"].endswith("gb")
    assert compose["services"]["train"]["command"][-1] == "+recipe=gsm8k_qwen7b_u13"


def test_compose_states_no_secret_and_gives_no_power(compose):
    declared = set(compose["volumes"])
    for service in compose["services"].values():
        assert set(SECRETS) <= set(service["environment"])
        assert not any("=" in variable for variable in service["environment"])
        assert service["cap_drop"] == ["ALL"]
        assert not {"privileged", "network_mode", "ipc", "pid", "ports"} & set(service)
        for volume in service["volumes"]:
            source, target = volume.split(":")
            assert source in declared or (ROOT / "docker" / source).resolve() == ROOT / "runs"
            assert target.startswith(("/app/runs", "/home/tinylora/.cache/"))
