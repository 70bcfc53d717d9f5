"""Our part of vLLM's HTTP server: the roster kept up to date, and two routes that tell of it.

vLLM's server takes middleware by its class's name and hands each app its parsed arguments; so we
get at the app without building it ourselves. The routes only read. Who may add and remove adapters
is decided by the file system alone: no request can name a path.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from tinylora_rl.serving.admission import Admitted, Intake
from tinylora_rl.serving.registry import Roster, line_of

MIDDLEWARE = f"{__name__}.HostingMiddleware"
ARGUMENT = "tinylora_hosting"
POLL_S = 1.0

Messages = Callable[..., Awaitable[Any]]


@dataclasses.dataclass(kw_only=True)
class Hosting:
    """What our part of the server is told, and what it tells in the end.

    Attributes:
        names: under which the base is served.
        socket: on which clients find the server; `address` says the same to a person.
        is_ready: it answers; false again when its HTTP server ends.
        was_told_to_stop: by a signal.
        failure: what ended it otherwise.
    """

    intake: Intake
    given: dict[str, Admitted]
    watched: Path | None
    names: tuple[str, ...]
    socket: socket.socket
    address: str
    is_ready: bool = False
    was_told_to_stop: bool = False
    failure: BaseException | None = None


class HostingMiddleware:
    """Around vLLM's app: while it lives, adapters come and go."""

    def __init__(self, app: Messages) -> None:
        self._app = app

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Messages, send: Messages
    ) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        async with _hosted(scope["app"]):
            await self._app(scope, receive, send)


@contextlib.asynccontextmanager
async def _hosted(app: Any) -> AsyncIterator[None]:
    """Inside, the app's roster is up to date within a second."""
    hosting: Hosting = getattr(app.state.args, ARGUMENT)
    models = _Models(app)
    roster = Roster(
        door=hosting.intake,
        given=hosting.given,
        watched=hosting.watched,
        reserved=hosting.names,
        announce=models.announce,
        withdraw=models.withdraw,
        say=_say,
    )
    _note_orderly_end(models.engine, hosting)
    _add_routes(app, hosting, roster, models)
    await roster.update()
    task = asyncio.create_task(_keep_up(app, hosting, roster, models))

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            hosting.failure = error
            app.state.server.should_exit = True

    task.add_done_callback(ended)
    try:
        yield
    finally:
        hosting.is_ready = False
        task.cancel()


class _Models:
    """The names that vLLM's server answers to, and its engine."""

    def __init__(self, app: Any) -> None:
        self.engine = app.state.engine_client
        self._models = app.state.openai_serving_models
        self._requests = dict(self._models.lora_requests)  # those of withdrawn names, too

    async def announce(self, name: str, adapter: Admitted) -> None:
        from vllm.lora.request import LoRARequest

        if name not in self._requests:
            number = self._models.lora_id_counter.inc(1)
            self._requests[name] = LoRARequest(name, number, str(adapter.directory))
        try:
            await self.engine.add_lora(self._requests[name])
        except Exception as error:  # the class in which vLLM passes on what a worker raised
            if self.engine.errored:
                raise
            raise ValueError(f"{name}: vLLM refuses it: {error}") from error
        self._models.lora_requests[name] = self._requests[name]

    def withdraw(self, name: str) -> None:
        # As vLLM's own unload: requests in progress end as they began, and the engine forgets the
        # adapter when its place is wanted.
        del self._models.lora_requests[name]

    async def memory(self) -> dict[str, int]:
        """Of the first worker; with tensor ranks, all hold as much."""
        told: list[dict[str, int]] = await self.engine.collective_rpc("adapter_memory")
        return told[0]


def _note_orderly_end(engine: Any, hosting: Hosting) -> None:
    """`hosting` will know whether the server was told to stop.

    vLLM, told to, shuts its engine down and then the HTTP server. After the death of its engine it
    ends the HTTP server first, and returns just as quietly.
    """
    shutdown = engine.shutdown

    def noted(*args: Any, **kwargs: Any) -> None:
        hosting.was_told_to_stop |= hosting.is_ready
        shutdown(*args, **kwargs)

    engine.shutdown = noted


async def _keep_up(app: Any, hosting: Hosting, roster: Roster, models: _Models) -> None:
    while not app.state.server.started:
        await asyncio.sleep(0.02)
    hosting.is_ready = True
    for line in _opening(hosting, roster, await models.memory()):
        _say(line)
    while True:
        await asyncio.sleep(POLL_S)
        await roster.update()


def _add_routes(app: Any, hosting: Hosting, roster: Roster, models: _Models) -> None:
    from fastapi.responses import JSONResponse

    async def adapters() -> dict[str, Any]:
        return {
            "base": list(hosting.names),
            "served": {name: _facts(adapter) for name, adapter in roster.served.items()},
            "refused": roster.refused,
            "memory": await models.memory(),
        }

    async def adapter(name: str) -> JSONResponse:
        if name in roster.served:
            return JSONResponse(_facts(roster.served[name]))
        if name in roster.refused:
            return _problem(422, "AdapterRefused", roster.refused[name])
        return _problem(404, "NotFoundError", f"{name}: no such adapter is served")

    # under /v1, where vLLM asks for the key in VLLM_API_KEY, if there is one
    app.add_api_route("/v1/adapters", adapters, methods=["GET"])
    app.add_api_route("/v1/adapters/{name}", adapter, methods=["GET"])


def _facts(adapter: Admitted) -> dict[str, Any]:
    return {"digest": adapter.digest, "num_parameters": adapter.num_parameters}


def _problem(status: int, kind: str, message: str) -> Any:
    """In the form that OpenAI's clients read."""
    from fastapi.responses import JSONResponse

    error = {"message": message, "type": kind, "param": "model", "code": status}
    return JSONResponse({"error": error}, status_code=status)


def _opening(hosting: Hosting, roster: Roster, memory: dict[str, int]) -> list[str]:
    """What a person reads when the server is ready."""
    lines = [f"adapter   {line_of(name, adapter)}" for name, adapter in roster.served.items()]
    watched = f", watching {hosting.watched}" if hosting.watched else ""
    return [
        *lines,
        f"memory    {memory['num_slots']} slots of {memory['slot_bytes']:,} bytes, "
        f"{memory['shared_bytes']:,} shared by all adapters, "
        f"{memory['adapter_bytes']:,} their own",
        f"ready     {hosting.address}/v1   base {hosting.names[0]}, {len(roster.served)} adapters"
        f"{watched}",
    ]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
