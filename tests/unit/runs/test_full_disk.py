"""A full disk is named, and nothing on it is torn."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
NAMESPACE = ["unshare", "--map-root-user", "--mount"]  # may mount, whoever the user is


def test_a_full_disk_is_named_and_nothing_is_torn(tmp_path):
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces")
    result = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "tests.unit.runs.full_disk", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout.startswith("survived"), result.stdout + result.stderr
    assert not list(tmp_path.iterdir())  # the disk was the process's own
