"""Ends a run that waits for a dead worker.

verl also waits where no message is an answer: on TransferQueue's sockets, and for a rank whose peer
is gone. Ray knows when an actor's process or node has died.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Any

POLL_S = 1.0
GRACE_S = 20.0  # in which the run may end with an error of its own, which says more


class Watchdog:
    """Watches the actors of this process's Ray job from a thread, inside the block.

    `found` is the dead actor in one line; None while all live.
    """

    def __init__(self) -> None:
        self.found: str | None = None
        self._runner: Any = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def watch(self, runner: Any) -> Any:
        """Starts watching; if an actor dies, `runner` (which is returned) is killed too."""
        self._runner = runner
        self._thread.start()
        return runner

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        import ray

        self._over.set()
        if self._thread.is_alive():
            self._thread.join(GRACE_S)  # it may be asking a Ray that is gone
        if kind is not None and issubclass(kind, ray.exceptions.RayError) and self.found is None:
            # the trainer may learn of a death before this asks; or nobody is left to
            # ask, and the error says so
            with suppress(ray.exceptions.RayError):
                self.found = dead_actor()

    def _watch(self) -> None:
        import ray

        while not self._over.wait(POLL_S):
            try:
                self.found = dead_actor()
            except ray.exceptions.RayError:
                continue  # Ray's control service is busy or restarts; the next poll asks again
            if self.found is not None:
                if not self._over.wait(GRACE_S):
                    ray.kill(self._runner)
                return


def dead_actor() -> str | None:
    """Finds an actor of this Ray job that ended by itself, and why; None where none did."""
    import ray
    from ray._private.state import actors  # the public `ray.util.state` needs Ray's dashboard
    from ray.core.generated.common_pb2 import ActorDiedErrorContext

    unexpected = (ActorDiedErrorContext.WORKER_DIED, ActorDiedErrorContext.NODE_DIED)
    job = ray.get_runtime_context().get_job_id()
    for actor in actors().values():
        if actor["State"] != "DEAD" or actor["JobID"] != job:
            continue
        cause = actor["DeathCause"]
        context = cause.WhichOneof("context")
        died = cause.actor_died_error_context
        if context == "oom_context":
            reason = "Ray killed it for want of memory"
        elif context == "actor_died_error_context" and died.reason in unexpected:
            reason = died.error_message.partition(" Some common causes")[0]
        else:
            continue
        name = actor["ActorClassName"].rpartition(".")[2]
        return f"{name} (process {actor['Pid']} on {actor['Address']['IPAddress']}) died: {reason}"
    return None
