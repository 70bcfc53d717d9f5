"""Stands in for Python when Ray starts a worker: asks the fork server for one, ends as it ends.

Run as a script by an isolated interpreter, which takes 20 ms: standard library only.
"""

import array
import json
import os
import socket
import sys
from typing import Any

LENGTH_BYTES = 8
NUM_STREAMS = 3
STARTED = b"+"  # the server's answer once there is a worker


def send(server: socket.socket, message: dict[str, Any]) -> None:
    """Sends a message, with this process's standard streams beside it."""
    text = json.dumps(message).encode()
    streams = array.array("i", range(NUM_STREAMS))
    server.sendmsg(
        [len(text).to_bytes(LENGTH_BYTES, "little")],
        [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)],
    )
    server.sendall(text)


def receive(client: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """Receives a message and its streams; None where the client ended without one."""
    streams = array.array("i")
    length, ancillary, _, _ = client.recvmsg(
        LENGTH_BYTES, socket.CMSG_SPACE(NUM_STREAMS * streams.itemsize)
    )
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            streams.frombytes(data)
    text = bytearray()
    while length and len(text) < int.from_bytes(length, "little"):
        part = client.recv(1 << 16)
        if not part:
            length = b""
        text += part
    return (json.loads(text) if length else None), list(streams)


def main() -> None:
    """Runs `fork_client.py ADDRESS SCRIPT ARGUMENTS...`."""
    address, *arguments = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.connect(address)
            send(server, {"arguments": arguments, "env": dict(os.environ), "folder": os.getcwd()})
            started = server.recv(len(STARTED))
        except OSError as error:
            print(f"fork server: {error}", file=sys.stderr)
            started = b""
        if started != STARTED:
            print("no fork server: this worker imports for itself", file=sys.stderr, flush=True)
            os.execv(sys.executable, [sys.executable, *arguments])
        code = server.recv(16)
    if not code:
        sys.exit("the fork server has ended, its worker goes on alone")
    if int(code) < 0:  # by a signal
        os.kill(os.getpid(), -int(code))
    sys.exit(int(code))


if __name__ == "__main__":
    main()
