"""One thread for this package, and the scripts that made the embedded model."""

import sys
from pathlib import Path

from tests.one_thread import one_thread  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[4] / "scripts"))
