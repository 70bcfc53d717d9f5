"""verl's replay buffers on a real TransferQueue, watched: prints what ends their waits."""

from __future__ import annotations

import threading
import time

import ray
import transfer_queue as tq
from omegaconf import OmegaConf
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer, ReplayBufferAsync

from tinylora_rl.verl_plugin.watched_rollout import RolloutError, watched

STORAGE = {"total_storage_size": 1000, "num_data_storage_units": 1}
QUEUE = {"backend": {"storage_backend": "SimpleStorage", "SimpleStorage": STORAGE}}


def put(**statuses: str) -> None:
    """The prompts' statuses, as an agent loop tells them."""
    tags = [
        {"is_prompt": True, "status": status, "global_steps": 1} for status in statuses.values()
    ]
    tq.kv_batch_put(keys=list(statuses), partition_id="train", tags=tags)


def wait(kind: type[ReplayBuffer], mode: str, num_prompts: int, deadline_s: float) -> str:
    buffer = kind(
        trainer_mode=mode,
        trainer_config=OmegaConf.create({}),
        max_off_policy_threshold=8,
        max_off_policy_strategy="drop",
        sampler_kwargs=OmegaConf.create({}),
        poll_interval=0.05,
    )
    start_s = time.monotonic()
    try:
        batch, _ = watched(buffer, deadline_s).sample(
            global_steps=1, partition_id="train", batch_size=num_prompts
        )
        said = f"sampled {len(batch)}"
    except RolloutError as error:
        said = str(error)
    return f"{mode} {time.monotonic() - start_s:.1f} {said}"


def main() -> None:
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=100_000_000,
        log_to_driver=False,
    )
    tq.init(OmegaConf.create(QUEUE))
    for kind, mode in ((ReplayBuffer, "sync"), (ReplayBufferAsync, "separate_async")):
        put(a="finished", b="running", c="running")
        tq.kv_batch_put(keys=["a_0_0"], partition_id="train", tags=[{"status": "success"}])
        print("stuck", wait(kind, mode, 3, deadline_s=1.0))

        # one more within each deadline, all of them not
        later = [threading.Timer(1.5, put, (), {"b": "finished"}),
                 threading.Timer(3.0, put, (), {"c": "finished"})]  # fmt: skip
        for timer in later:
            timer.start()
        print("slow", wait(kind, mode, 3, deadline_s=2.5))

        put(a="finished", b="failure", c="running")
        print("failed", wait(kind, mode, 1, deadline_s=60.0))
        tq.kv_clear(keys=["a", "b", "c"], partition_id="train")
    tq.close()
    ray.shutdown()


if __name__ == "__main__":
    main()
