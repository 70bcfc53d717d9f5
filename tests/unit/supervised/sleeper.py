"""A rank that fails, ends, or writes its process number and waits: `sleeper FOLDER CODE PARENT`."""

import os
import sys
import time
from pathlib import Path

from tinylora_rl.supervised.ranks import die_with_parent

if __name__ == "__main__":
    folder, code, parent = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    die_with_parent(parent)
    (folder / f"{os.environ['RANK']}.pid").write_text(str(os.getpid()))
    if code != "wait" and os.environ["RANK"] == "0":
        sys.exit(int(code))
    time.sleep(120 if code != "0" else 0)
