"""`python -m tinylora_rl.evaluate adapters=[DIR,...] benchmarks=[NAME,...]`: adapters against the
base model, which is always measured beside them.

Exit codes: 0 done, 1 failed, 2 bad configuration, 3 environment, 75 stopped by a signal with every
graded response saved; the same command with the same run.dir then continues.
"""

from __future__ import annotations

from typing import Any

from tinylora_rl.command import run_command


def _job(evaluation: Any) -> int:
    from tinylora_rl.evaluation.run import evaluate

    return evaluate(evaluation)


def main() -> None:
    """Exits with the code of the evaluation."""
    run_command("evaluate", _job)


if __name__ == "__main__":
    main()
