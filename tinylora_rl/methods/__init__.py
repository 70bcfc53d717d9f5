"""Methods: ways of training a model, one file each behind `Method`.

    method = make_method("tinylora", {"u": 13, "n_tie": "all"})
    method.size(dims).num_parameters            # 13
    method.label                                # "tinylora", by which tables tell methods apart

A method of your own is one file that subclasses `Method`, calls `register_method`, and is named on
the command line: `plugins=[my_method.py] adapter=plugin method=my_method`.
"""

from tinylora_rl.methods.base import (
    METHODS,
    Method,
    Size,
    TrainedPolicy,
    known_methods,
    make_method,
    method_of_run,
    name_of_run,
    register_method,
)

__all__ = ["METHODS", "Method", "Size", "TrainedPolicy"]
__all__ += ["known_methods", "make_method", "method_of_run", "name_of_run"]
__all__ += ["register_method"]
