"""Our part of vLLM's HTTP server: keeps the registry up to date, and adds two routes about it.

vLLM's server takes middleware by its class's name and gives each app its parsed arguments; so we
reach the app without building it ourselves. The routes only read. The file system alone decides who
may add and remove adapters: no request can name a path.
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

from tinylora_rl.serving.admission import AdapterLoader, ServedAdapter
from tinylora_rl.serving.registry import AdapterRegistry, line_of

MIDDLEWARE = f"{__name__}.AdapterMiddleware"
ARGUMENT = "tinylora_server"
POLL_S = 1.0

Messages = Callable[..., Awaitable[Any]]


@dataclasses.dataclass(kw_only=True)
class ServerState:
    """Input of our part of the server, and its outcome."""

    loader: AdapterLoader  # of adapters that come while the server runs
    named: dict[str, ServedAdapter]  # of the command line
    watched: Path | None
    base_names: tuple[str, ...]  # under which the base is served
    socket: socket.socket  # on which clients find the server
    address: str
    is_ready: bool = False  # false again when its HTTP server ends
    was_stopped: bool = False  # by a signal
    failure: BaseException | None = None  # that ended it otherwise


class AdapterMiddleware:
    """Runs the registry around vLLM's app.

    vLLM creates it while it builds the app, from the class's name in its `middleware` argument; the
    ASGI server calls it with a "lifespan" scope at the start and with each request afterwards.
    """

    def __init__(self, app: Messages) -> None:
        self._app = app

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Messages, send: Messages
    ) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        async with _registry_of(scope["app"]):
            await self._app(scope, receive, send)


@contextlib.asynccontextmanager
async def _registry_of(app: Any) -> AsyncIterator[None]:
    """Keeps the app's registry up to date within a second while the context is open."""
    state: ServerState = getattr(app.state.args, ARGUMENT)
    models = _Models(app)
    registry = AdapterRegistry(
        loader=state.loader,
        named=state.named,
        watched=state.watched,
        reserved=state.base_names,
        register=models.register,
        unregister=models.unregister,
        report=_print,
    )
    _note_orderly_end(models.engine, state)
    _add_routes(app, state, registry, models)
    await registry.update()
    task = asyncio.create_task(_keep_up(app, state, registry, models))

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            state.failure = error
            app.state.server.should_exit = True

    task.add_done_callback(ended)
    try:
        yield
    finally:
        state.is_ready = False
        task.cancel()


class _Models:
    """The names that vLLM's server answers to, and its engine."""

    def __init__(self, app: Any) -> None:
        self.engine = app.state.engine_client
        self._models = app.state.openai_serving_models
        self._requests = dict(self._models.lora_requests)  # those of unregistered names, too

    async def register(self, name: str, adapter: ServedAdapter) -> None:
        from vllm.lora.request import LoRARequest

        if name not in self._requests:
            number = self._models.lora_id_counter.inc(1)
            self._requests[name] = LoRARequest(name, number, str(adapter.directory))
        try:
            await self.engine.add_lora(self._requests[name])
        except Exception as error:  # the class in which vLLM passes on a worker's error
            if self.engine.errored:
                raise
            raise ValueError(f"{name}: vLLM refuses it: {error}") from error
        self._models.lora_requests[name] = self._requests[name]

    def unregister(self, name: str) -> None:
        # As vLLM's own unload: requests in progress end as they began, and the engine drops the
        # adapter when its place is needed.
        del self._models.lora_requests[name]

    async def memory(self) -> dict[str, int]:
        """Asks the first worker; with tensor parallelism, all have as much."""
        memories: list[dict[str, int]] = await self.engine.collective_rpc("adapter_memory")
        return memories[0]


def _note_orderly_end(engine: Any, state: ServerState) -> None:
    """Wraps `engine.shutdown` so that `state` records a stop by signal.

    On a signal, vLLM calls `engine.shutdown` and then ends the HTTP server. After the death of its
    engine it ends the HTTP server first, and returns without an error as well.
    """
    shutdown = engine.shutdown

    def noted(*args: Any, **kwargs: Any) -> None:
        state.was_stopped |= state.is_ready
        shutdown(*args, **kwargs)

    engine.shutdown = noted


async def _keep_up(
    app: Any, state: ServerState, registry: AdapterRegistry, models: _Models
) -> None:
    while not app.state.server.started:
        await asyncio.sleep(0.02)
    state.is_ready = True
    for line in _opening(state, registry, await models.memory()):
        _print(line)
    while True:
        await asyncio.sleep(POLL_S)
        await registry.update()


def _add_routes(app: Any, state: ServerState, registry: AdapterRegistry, models: _Models) -> None:
    from fastapi.responses import JSONResponse

    async def adapters() -> dict[str, Any]:
        return {
            "base": list(state.base_names),
            "served": {name: _facts(adapter) for name, adapter in registry.served.items()},
            "refused": registry.refused,
            "memory": await models.memory(),
        }

    async def adapter(name: str) -> JSONResponse:
        if name in registry.served:
            return JSONResponse(_facts(registry.served[name]))
        if name in registry.refused:
            return _problem(422, "AdapterRefused", registry.refused[name])
        return _problem(404, "NotFoundError", f"{name}: no such adapter is served")

    # under /v1, where vLLM asks for the key in VLLM_API_KEY, if there is one
    app.add_api_route("/v1/adapters", adapters, methods=["GET"])
    app.add_api_route("/v1/adapters/{name}", adapter, methods=["GET"])


def _facts(adapter: ServedAdapter) -> dict[str, Any]:
    return {"digest": adapter.digest, "num_parameters": adapter.num_parameters}


def _problem(status: int, kind: str, message: str) -> Any:
    """Formats an error as OpenAI's clients read it."""
    from fastapi.responses import JSONResponse

    error = {"message": message, "type": kind, "param": "model", "code": status}
    return JSONResponse({"error": error}, status_code=status)


def _opening(state: ServerState, registry: AdapterRegistry, memory: dict[str, int]) -> list[str]:
    """Formats the lines that a person reads when the server is ready."""
    served = registry.served
    watched = f", watching {state.watched}" if state.watched else ""
    return [
        *(f"adapter   {line_of(name, adapter)}" for name, adapter in served.items()),
        f"memory    {memory['num_slots']} slots of {memory['slot_bytes']:,} bytes, "
        f"{memory['shared_bytes']:,} shared by all adapters, "
        f"{memory['adapter_bytes']:,} their own",
        f"ready     {state.address}/v1   base {state.base_names[0]}, {len(served)} adapters"
        f"{watched}",
    ]


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
