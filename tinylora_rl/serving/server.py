"""Runs vLLM's OpenAI-compatible server with our adapters."""

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
from argparse import Namespace
from types import FrameType
from typing import NoReturn

from tinylora_rl.errors import EXIT_FAILED, ConfigError, MachineError
from tinylora_rl.serving.app import ARGUMENT, ServerState

WANTED_FILES = 65535
"""Open files; every client takes one."""


def bind(host: str, port: int) -> socket.socket:
    """Binds the socket on which clients will find the server, before anything expensive starts."""
    if not 0 < port < 1 << 16:
        raise ConfigError(f"--port={port}: use a number from 1 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        hint = "choose another --port" if taken else "choose another --host or --port"
        raise MachineError(f"--port={port}: {host}:{port}: {error.strerror}; {hint}") from error
    return bound


def run(arguments: Namespace, state: ServerState) -> int:
    """Serves until SIGTERM or SIGINT; returns 0 after a signal, 1 when the engine died.

    Raises KeyboardInterrupt where a signal came before the server was ready.
    """
    import uvloop
    from vllm.entrypoints.openai.api_server import run_server_worker, validate_api_server_args

    # as `vllm serve` does; after a fork, torch's thread pools would hang
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    validate_api_server_args(arguments)
    _allow_open_files()
    setattr(arguments, ARGUMENT, state)
    # not vLLM's run_server: it raises KeyboardInterrupt on a signal, which vLLM's own handshake
    # with its engine swallows (zmq_socket_ctx), and then waits for that engine for ten minutes
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop_starting)
    try:
        uvloop.run(run_server_worker(state.address, state.socket, arguments))
    except _StoppedEarlyError:
        raise KeyboardInterrupt from None
    if state.was_stopped and state.failure is None:
        return 0
    print(f"error: {state.failure or 'the engine died; vLLM said why'}", file=sys.stderr)
    return EXIT_FAILED


class _StoppedEarlyError(BaseException):
    """Raised by a signal; neither `except Exception` nor `except KeyboardInterrupt` catches it."""


def _stop_starting(signum: int, frame: FrameType | None) -> NoReturn:
    """Handles signals until vLLM's server installs handlers of its own."""
    del frame
    os.write(2, f"stopped by {signal.Signals(signum).name}\n".encode())
    raise _StoppedEarlyError


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
