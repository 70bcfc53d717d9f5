"""Named after the upstream behaviour it guards against: verl's weight sender waits for ever when
its receiver
fails (see tinylora_rl/verl_plugin/sync/deadline.py for the condition under which it can go)."""

import asyncio
import gc
import threading
import time

import pytest
import torch

from tinylora_rl.verl_plugin.sync.deadline import Deadline, DeadlineWeightSender, SyncError


def sender_to(path, check) -> DeadlineWeightSender:
    return DeadlineWeightSender(
        check=check, zmq_handle=f"ipc://{path}", bucket_size_mb=1, use_shm=True
    )


def send(sender) -> None:
    asyncio.run(sender.async_send_weights(iter([("w", torch.ones(4, 4))])))


def test_without_a_receiver_the_send_ends_at_the_deadline(tmp_path):
    deadline = Deadline(0.5, "the sync of policy version 3")
    start_s = time.monotonic()
    with pytest.raises(
        SyncError, match=r"policy version 3 did not happen within sync\.deadline_s=0\.5"
    ):
        send(sender_to(tmp_path / "none.sock", deadline.check))
    assert time.monotonic() - start_s < 5


@pytest.mark.filterwarnings(  # what verl's receiver leaves open when a load fails
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"
)
def test_a_receiver_that_raises_ends_the_send_at_once(tmp_path):
    from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver

    path = tmp_path / "raises.sock"
    failure: list[Exception] = []

    def receive() -> None:
        def cannot_load(weights, is_last):
            raise RuntimeError("injected")

        receiver = BucketedWeightReceiver(f"ipc://{path}", torch.device("cpu"), use_shm=True)
        try:
            receiver.receive_weights(cannot_load)
        except Exception as error:
            # verl's clean-up fails on top of ours: BufferError, with the cause in its context
            failure.append(error.__context__ or error)

    deadline = Deadline(30, "the sync")

    def check() -> None:
        if failure:
            raise SyncError(f"the worker failed: {failure[0]}")
        deadline.check()

    thread = threading.Thread(target=receive)
    thread.start()
    start_s = time.monotonic()
    with pytest.raises(SyncError, match="the worker failed: injected"):
        send(sender_to(path, check))
    thread.join(timeout=10)
    assert time.monotonic() - start_s < 10
    failure.clear()
    gc.collect()  # here, where its warnings are expected


def test_a_healthy_receiver_gets_everything(tmp_path):
    from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver

    path = tmp_path / "healthy.sock"
    received: dict[str, torch.Tensor] = {}

    def receive() -> None:
        receiver = BucketedWeightReceiver(f"ipc://{path}", torch.device("cpu"), use_shm=True)
        receiver.receive_weights(
            lambda weights, is_last: received.update((n, t.clone()) for n, t in weights)
        )

    thread = threading.Thread(target=receive)
    thread.start()
    send(sender_to(path, Deadline(30, "the sync").check))
    thread.join(timeout=10)
    assert torch.equal(received["w"], torch.ones(4, 4))
