"""Forks Ray's workers off one process that has imported what they all need.

verl starts about ten Ray workers, and each spends 5 to 15 seconds of CPU time on imports: on two
cores that is most of the time from the command to the first step. Here one process imports once,
while the trainer's own checks run, and every worker is a fork of it, which also shares its memory.

Ray starts a worker by the command `py_executable default_worker.py ...` (runtime environment,
field `py_executable`). `fork_client.py` stands in that place: it hands command line, environment,
folder and standard streams to the server, and ends as the worker ends. The worker itself is Ray's
own `default_worker.py`, unchanged. Not for machines with accelerators, where cores are many and
forks are delicate.
"""

from __future__ import annotations

import gc
import importlib
import os
import runpy
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tinylora_rl.verl_plugin.cpu import fork_client
from tinylora_rl.verl_plugin.cpu.patches import answer_for_vllm

STREAMS = (0, 1, 2)
BEFORE_RAY = (
    "torch",
    "tensordict",
    "transformers.modeling_utils",
    "vllm.entrypoints.openai.api_server",
    "vllm.lora.lora_model",
)
# Ray fixes some of its settings (job, raylet) when it is imported: these wait for the first worker,
# whose environment has them; they are the same for all.
WITH_RAY = (
    "datasets",
    "tinylora_rl.rewards.score",
    "verl.experimental.agent_loop",
    "verl.experimental.reward_loop",
    "verl.workers.rollout.vllm_rollout.vllm_async_server",
    "vllm.v1.worker.cpu_worker",
    "tinylora_rl.verl_plugin.trainer",
    "tinylora_rl.verl_plugin.worker",
)


@contextmanager
def fork_server(env: Mapping[str, str]) -> Iterator[str]:
    """Starts a server process that imports what workers need; yields Ray's `py_executable`.

    Comes back at once: workers wait for the imports. The server ends with the block, and with this
    process however that ends; workers end as Ray ends them. `env` is added to the environment; what
    a library reads on import (`OMP_*`, `HF_HUB_OFFLINE`) must be in it.
    """
    folder = Path(tempfile.mkdtemp(prefix="tinylora-fork-"))  # for this user alone
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        server = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), str(listener.fileno())],
            env={**os.environ, **env},
            pass_fds=[listener.fileno()],
            stdin=subprocess.PIPE,  # closed by our end, which ends the server
            start_new_session=True,  # Ctrl-C is the trainer's to handle, as with Ray's own workers
        )
    try:
        client = [sys.executable, "-I", "-S", fork_client.__file__, str(folder / "socket")]
        yield shlex.join(client)
    finally:
        server.communicate()


@dataclass(frozen=True)
class Request:
    """A process that a client asks for."""

    arguments: list[str]  # script and its arguments
    env: dict[str, str]
    folder: str
    streams: tuple[int, ...]  # file descriptors for STREAMS

    def become(self) -> NoReturn:
        """Turns this process into the worker, which ends as its script ends."""
        os.setsid()  # as Ray's own: a signal to its process group reaches no other worker
        for target, source in zip(STREAMS, self.streams, strict=True):
            os.dup2(source, target)
            os.close(source)
        os.environ.clear()
        os.environ.update(self.env)
        os.chdir(self.folder)
        _start_anew(self.env)
        sys.argv = self.arguments
        sys.path[0] = str(Path(self.arguments[0]).parent)
        runpy.run_path(self.arguments[0], run_name="__main__")
        sys.exit(0)


def _import(modules: Iterable[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # a collection in a worker would copy every page it only looks at


def _start_anew(env: Mapping[str, str]) -> None:
    """Seeds the generators, which a fork shares with its parent, and counts threads as Ray says."""
    import random

    import numpy
    import torch

    random.seed()
    numpy.random.seed()
    if (stated := env.get("OMP_NUM_THREADS", "")).isdecimal():  # torch read it on import
        torch.set_num_threads(int(stated))


class _Server:
    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._clients: dict[int, socket.socket] = {}  # by the worker's process id
        self._wakeup, sender = socket.socketpair()
        self._wakeup.setblocking(False)
        sender.setblocking(False)
        self._sender = sender

    def next_worker(self) -> Request | None:
        """Serves until the parent ends, then None; in each forked child returns its request."""
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that the wakeup descriptor is written
        signal.set_wakeup_fd(self._sender.fileno())
        with selectors.DefaultSelector() as ready:
            for source in (self._listener, self._wakeup, sys.stdin):
                ready.register(source, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is sys.stdin:  # never written to: the parent closed it
                        return None
                    if key.fileobj is self._wakeup:
                        self._wakeup.recv(4096)
                        self._report_ended()
                    else:
                        client = self._listener.accept()[0]
                        if (request := self._fork(client)) is not None:
                            return request

    def _fork(self, client: socket.socket) -> Request | None:
        message, streams = fork_client.receive(client)
        if message is None:  # the client ended first
            client.close()
            return None
        if "ray" not in sys.modules:
            os.environ.update({k: v for k, v in message["env"].items() if k.startswith("RAY_")})
            _import(WITH_RAY)
        pid = os.fork()
        if pid:
            self._clients[pid] = client
            _answer(client, fork_client.STARTED)
            for stream in streams:
                os.close(stream)
            return None
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for connection in (self._listener, self._wakeup, self._sender, client):
            connection.close()
        for connection in self._clients.values():
            connection.close()
        return Request(**message, streams=tuple(streams))

    def _report_ended(self) -> None:
        while self._clients:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            client = self._clients.pop(pid, None)
            if client is not None:  # else a library's helper process, no worker
                _answer(client, str(os.waitstatus_to_exitcode(status)).encode())
                client.close()


def _answer(client: socket.socket, answer: bytes) -> None:
    with suppress(BrokenPipeError):  # Ray may have ended the client
        client.sendall(answer)


def main() -> None:
    """Runs `python -m ...fork_server FOLDER LISTENER`; removes the folder at the end."""
    folder, descriptor = sys.argv[1:]
    with socket.socket(fileno=int(descriptor)) as listener:
        answer_for_vllm()  # vLLM looks for its platform when it is imported
        _import(BEFORE_RAY)
        if "ray" in sys.modules:
            raise RuntimeError("BEFORE_RAY imports Ray: its settings would not be the workers'")
        request = _Server(listener).next_worker()
    if request is None:
        shutil.rmtree(folder)
    else:
        request.become()


if __name__ == "__main__":
    main()
