"""A Ray job under the watchdog, whose worker dies while the runner waits for ever: prints how it
ends.
"""

import os
import signal
import sys
import time

import ray

from tests.own_ray import start_own_ray
from tinylora_rl.runs.exit_codes import stop_on_signals
from tinylora_rl.training import watchdog as module
from tinylora_rl.training.watchdog import Watchdog, dead_actor


@ray.remote(num_cpus=0)
class Worker:
    def pid(self) -> int:
        return os.getpid()


@ray.remote(num_cpus=0)
class Runner:
    def run(self, victim: str) -> None:
        self.worker, self.told_to_end = Worker.remote(), Worker.remote()
        ray.get(self.told_to_end.pid.remote())
        ray.kill(self.told_to_end)  # as TransferQueue's are at the end: nothing to be found
        pid = ray.get(self.worker.pid.remote())
        time.sleep(2)
        os.kill(pid if victim == "worker" else os.getpid(), signal.SIGKILL)
        time.sleep(300)


def main(victim: str) -> None:
    module.GRACE_S = 1.0
    start_own_ray()
    asked: list[str] = []
    stop_on_signals(asked.append)
    os.kill(os.getpid(), signal.SIGUSR1)
    watchdog = Watchdog()
    start_s = time.monotonic()
    try:
        with watchdog:
            assert dead_actor() is None
            ray.get(watchdog.watch(Runner.remote()).run.remote(victim))
    except ray.exceptions.RayError as error:
        print(f"ended by {type(error).__name__} after {time.monotonic() - start_s:.0f} s")
    print(f"found {watchdog.found}")
    print(f"asked {asked}")


if __name__ == "__main__":
    main(sys.argv[1])
