"""vLLM's OpenAI-compatible server, run to its end with our adapters."""

from __future__ import annotations

import errno
import os
import socket
import sys
from argparse import Namespace

from tinylora_rl.errors import EXIT_FAILED, ConfigError, MachineError
from tinylora_rl.serving.hosting import ARGUMENT, Hosting


def check_port(host: str, port: int) -> None:
    """Nobody else listens there now.

    Raises:
        ConfigError: that is no port.
        MachineError: somebody does, or this machine has no such address.
    """
    if not 0 < port < 1 << 16:
        raise ConfigError(f"--port={port}: use a number from 1 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        mend = "choose another --port" if taken else "choose another --host or --port"
        raise MachineError(f"--port={port}: {host}:{port}: {error.strerror}; {mend}") from error


def run(arguments: Namespace, hosting: Hosting) -> int:
    """Serves until SIGTERM or SIGINT.

    Returns:
        The exit code: 0 when it was told to stop, 1 when its engine died.

    Raises:
        KeyboardInterrupt: it was told to stop before it answered anybody.
    """
    import uvloop
    from vllm.entrypoints.openai.api_server import run_server

    # as `vllm serve` does; after a fork, torch's thread pools would hang
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
    setattr(arguments, ARGUMENT, hosting)
    uvloop.run(run_server(arguments))
    if hosting.was_told_to_stop and hosting.failure is None:
        return 0
    print(f"error: {hosting.failure or 'the engine died; vLLM said why'}", file=sys.stderr)
    return EXIT_FAILED
