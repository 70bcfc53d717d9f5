"""Receipts of rollout workers against what the trainer sent."""

import pytest

from tinylora_rl.verl_plugin.sync.deadline import SyncError
from tinylora_rl.verl_plugin.sync.rollout import check_receipts


def receipt(version: int | None = 4, checksum: str | None = "abc") -> dict:
    return {"worker": "host:0", "policy_version": version, "checksum": checksum}


def test_all_equal_is_an_acknowledgement():
    check_receipts([receipt(), receipt()], 4, "abc")


@pytest.mark.parametrize(
    ("receipts", "message"),
    [
        ([], "no rollout worker acknowledged policy version 4"),
        ([receipt(), receipt(version=3)], "worker host:0 holds policy version 3"),
        (
            [receipt(checksum="abd")],
            "with checksum abd, the trainer sent version 4 with checksum abc",
        ),
        ([receipt(None, None)], "holds policy version None"),
    ],
)
def test_anything_else_ends_the_run(receipts, message):
    with pytest.raises(SyncError, match=message):
        check_receipts(receipts, 4, "abc")
