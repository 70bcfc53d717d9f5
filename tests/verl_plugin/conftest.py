"""Upstream's import-time warnings are upstream's: verl and vLLM are imported once, here, with them
off.
"""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tinylora_rl.verl_plugin.engine
    import tinylora_rl.verl_plugin.sync.rollout
    import tinylora_rl.verl_plugin.sync.worker_extension  # noqa: F401
