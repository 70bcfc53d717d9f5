"""`python -m tinylora_rl.doctor [+recipe=NAME] [group=choice] [key=value]`: plans and checks a run.

Prints what `train` with the same words would do (what it trains and sends, steps, tokens, hours),
what it needs, and a table of all that is wrong with configuration, installation and machine, each
with its fix. Nothing is started and nothing written. Exit codes: 0 nothing failed, 2 the
configuration did, 3 the machine did. `train`, `sft` and `evaluate` do the same with `dry_run=true`.
"""

from __future__ import annotations

import sys
from typing import Any

from tinylora_rl.command import run_command


def _job(experiment: Any) -> int:
    raise AssertionError("the doctor starts nothing")


def main() -> None:
    """Exits with the code of the table."""
    sys.argv.append("dry_run=true")
    run_command("train", _job)


if __name__ == "__main__":
    main()
