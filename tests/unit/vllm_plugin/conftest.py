"""Upstream's import-time warnings are upstream's: vLLM is imported once, here, with them off."""

import warnings

from tests.unit.serving.conftest import adapters  # noqa: F401

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import vllm.v1.sample.ops.topk_topp_sampler  # noqa: F401
