"""`python -m tinylora_rl.serve BASE [ADAPTER ...]`: serves one base model and any number of our
adapters through vLLM's OpenAI-compatible server; clients choose by the `model` they name.

Exit codes: 0 stopped by SIGTERM or SIGINT, 1 the engine failed, 2 the base, an adapter or an
argument is wrong (one line says which), 3 the machine cannot, 75 stopped before it was ready.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tinylora_rl.errors import ConfigError, MachineError
from tinylora_rl.runs.console import exit_noise_to
from tinylora_rl.runs.exit_codes import exit_code_of

if TYPE_CHECKING:
    from tinylora_rl.settings.sections import Engine


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command `argv` (None: the process's own) and returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--") if "--" in words else len(words)
    arguments = _parser().parse_args(words[:end])
    return exit_code_of(lambda: _serve(arguments, passed=words[end + 1 :]))


def _serve(arguments: argparse.Namespace, *, passed: Sequence[str]) -> int:
    engine = _engine(arguments.device)
    for key, value in engine.env.items():
        os.environ.setdefault(key, str(value))
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    # after the environment: these import vLLM and torch
    from tinylora_rl.serving.build import ServeOptions, build_server
    from tinylora_rl.serving.server import bind, run

    asked = {key: value for key, value in vars(arguments).items() if key != "device"}
    with (
        bind(arguments.host, arguments.port) as bound,
        tempfile.TemporaryDirectory(prefix="tinylora-serve-") as store,
    ):
        try:
            built = build_server(
                ServeOptions(**asked, passed=passed),
                options=engine.options,
                store=Path(store),
                bound=bound,
            )
        except ValueError as error:
            raise ConfigError(" ".join(str(error).split())) from error
        except OSError as error:
            raise MachineError(" ".join(str(error).split())) from error
        exit_noise_to(Path(os.devnull))  # of C++ extensions, about themselves
        return run(*built)


def _engine(device: str) -> Engine:
    """Chooses the options and environment of vLLM: those of an evaluation on this device."""
    from tinylora_rl.settings.evaluation import engine_for

    if find_spec("vllm") is None:
        raise MachineError("vllm: not installed; install this package with its cpu or gpu extra")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and not count:
        raise MachineError("--device=cuda: no GPU is visible here; use --device=cpu")
    if device == "cpu" and count and os.environ.get("VLLM_TARGET_DEVICE") != "cpu":
        raise MachineError(
            f"--device=cpu: {count} GPUs are visible, and vLLM would take one with settings made "
            "for a CPU; use --device=cuda"
        )
    if device == "auto":
        device = "cuda" if count else "cpu"
    return engine_for(device)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tinylora_rl.serve",
        description="Adapters behind vLLM's OpenAI-compatible server.",
        epilog="Arguments after -- are vLLM's own. A key that clients must send: VLLM_API_KEY.",
        allow_abbrev=False,
    )
    parser.add_argument("base", metavar="BASE", help="folder or Hub id of the base model")
    parser.add_argument(
        "adapters", nargs="*", metavar="ADAPTER", help="adapter or run directory, or NAME=DIR"
    )
    parser.add_argument(
        "--watch", metavar="DIR", help="serve the adapters that lie there, as they come and go"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--name", help="what clients call the base; by default BASE as it is given")
    parser.add_argument("--revision", help="commit of the base on the Hub")
    parser.add_argument(
        "--slots", type=int, help="different adapters in one batch, where it is not 16 at most"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
