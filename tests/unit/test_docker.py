"""Facts of the images and the compose file that their linter cannot see."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PLATFORMS = ("cpu", "gpu")
KEPT_OUT = {
    ".git", ".venv", "runs", "**/.env", "**/.env.*", "**/.netrc", "**/auth_token", "**/*.key",
    "**/*.pem",
}  # fmt: skip


def dockerfile(platform: str) -> str:
    return (ROOT / "docker" / f"Dockerfile.{platform}").read_text()


@pytest.mark.parametrize("platform", PLATFORMS)
def test_an_image_installs_its_pins_and_runs_as_a_user_without_secrets(platform):
    text = dockerfile(platform)
    assert re.search(r"^FROM \S+:\d+\.\d+", text, flags=re.MULTILINE)
    assert text.count(f"scripts/setup.sh .venv {platform}") == 1
    assert (ROOT / "requirements" / f"{platform}.txt").exists()
    assert re.search(r"^USER 1000\nCMD ", text, flags=re.MULTILINE)
    assert not re.search(r"^ARG ", text, flags=re.MULTILINE)  # stays in the image's history
    assert not re.search(r"^ENV .*(TOKEN|KEY|SECRET|PASSWORD)", text, flags=re.MULTILINE)


def test_the_gpu_image_is_built_for_the_cuda_of_its_torch():
    """flash-attn is compiled with the image's compiler against the wheel's libraries."""
    image = re.search(r"cuda:(\d+\.\d+)\.", dockerfile("gpu"))
    pins = (ROOT / "requirements" / "gpu.txt").read_text()
    runtime = re.search(r"^nvidia-cuda-runtime==(\d+\.\d+)\.", pins, flags=re.MULTILINE)
    assert image is not None
    assert runtime is not None
    assert image.group(1) == runtime.group(1)


def test_no_image_contains_secrets_runs_or_environments():
    assert set((ROOT / ".dockerignore").read_text().splitlines()) >= KEPT_OUT


@pytest.mark.parametrize(("service", "platform"), [("quickstart", "cpu"), ("train", "gpu")])
def test_compose_runs_both_images_without_secrets_and_privileges(service, platform):
    compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
    found = compose["services"][service]
    assert found["build"] == {"context": "..", "dockerfile": f"docker/Dockerfile.{platform}"}
    assert found["shm_size"].endswith("gb")
    assert {"HF_TOKEN", "WANDB_API_KEY"} <= set(found["environment"])
    assert not any("=" in variable for variable in found["environment"])  # names, no values
    assert found["cap_drop"] == ["ALL"]
    assert not {"privileged", "network_mode", "ipc", "pid", "ports"} & set(found)
    for volume in found["volumes"]:
        source, target = volume.split(":")
        assert source in {*compose["volumes"], "../runs"}
        assert target.startswith(("/app/runs", "/home/tinylora/.cache/"))
