"""The origin of an adapter: base model, data, run and scores."""

from __future__ import annotations

import dataclasses
import math
import numbers
import operator
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """States the origin of an adapter. A field that is None does not appear in the manifest.

    A value of another type, or a metric that is not finite, is a ValueError.
    """

    base_model: str | None = None  # id on the Hub, or folder
    base_revision: str | None = None  # commit on the Hub
    prompt_template: str | None = None  # name or text
    reward: str | None = None
    data: str | None = None
    recipe: str | None = None
    run: str | None = None
    parent_run: str | None = None  # that it was continued from
    global_step: int | None = None  # steps of the optimiser so far
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)  # e.g. gsm8k/strict

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "metrics":
                object.__setattr__(self, "metrics", _checked_metrics(value))
            elif value is None:
                continue
            elif field.name == "global_step":
                object.__setattr__(self, "global_step", _checked_step(value))
            elif not isinstance(value, str) or not value:
                raise ValueError(f"provenance.{field.name}={value!r}: use a text, or leave it out")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Provenance:
        """Reads a mapping; an unknown key is a ValueError that names it."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"provenance.{key}: no such field; choose from {', '.join(known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values that `from_mapping` takes back, without the unknown ones."""
        stated = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        stated["metrics"] = dict(self.metrics) or None
        return {key: value for key, value in stated.items() if value is not None}


def _checked_step(value: object) -> int:
    try:
        step = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        step = -1
    if step < 0:
        raise ValueError(f"provenance.global_step={value!r}: use a whole number, 0 or more")
    return step


def _checked_metrics(metrics: object) -> dict[str, float]:
    if not isinstance(metrics, Mapping):
        raise ValueError(f"provenance.metrics={metrics!r}: use a mapping from name to number")
    checked = {}
    for name, value in metrics.items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"provenance.metrics: {name!r} is no name; use a text")
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise ValueError(f"provenance.metrics.{name}={value!r}: use a number")
        try:
            number = float(value)
        except OverflowError:  # an integer of 300 digits
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(
                f"provenance.metrics.{name}={number}: is not finite; leave it out of the manifest"
            )
        checked[name] = number
    return checked
