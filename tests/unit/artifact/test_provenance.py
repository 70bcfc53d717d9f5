"""Known fields, typed; nothing else."""

import math

import numpy as np
import pytest

from tests.unit.artifact.conftest import PROVENANCE
from tinylora_rl.artifact import Provenance


def test_round_trip():
    provenance = Provenance.from_mapping(PROVENANCE)
    assert provenance.to_dict() == PROVENANCE
    assert Provenance().to_dict() == {}


def test_numbers_of_numpy_become_plain():
    provenance = Provenance(global_step=np.int64(3), metrics={"a": np.float32(0.5)})
    assert provenance.to_dict() == {"global_step": 3, "metrics": {"a": 0.5}}
    assert type(provenance.global_step) is int
    assert type(provenance.metrics["a"]) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"author": "x"}, "provenance.author: no such field; choose from base_model"),
        ({"base_model": 3}, "provenance.base_model=3: use a text"),
        ({"reward": ""}, "provenance.reward='': use a text"),
        ({"global_step": 1.5}, "global_step=1.5"),
        ({"global_step": -1}, "global_step=-1"),
        ({"global_step": True}, "global_step=True"),
        ({"metrics": [1]}, "metrics=.*use a mapping"),
        ({"metrics": {"a": "0.9"}}, "metrics.a='0.9': use a number"),
        ({"metrics": {"a": True}}, "metrics.a=True: use a number"),
        ({"metrics": {"a": math.nan}}, "metrics.a=nan: is not finite"),
        ({"metrics": {1: 0.5}}, "1 is no name"),
    ],
)
def test_what_is_not_a_value_of_the_field_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Provenance.from_mapping(values)
