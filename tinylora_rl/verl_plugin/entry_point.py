"""Registers this package when verl is imported, in every process (entry point "verl.plugins").

verl logs a plugin's exception at DEBUG and goes on, on a platform that may not exist. A failure
here ends the process instead: SystemExit is no Exception, so verl's handler lets it pass.
"""

import sys
import traceback

EXIT_ENVIRONMENT = 3

try:
    from tinylora_rl.verl_plugin.registration import register

    register()
except Exception as error:
    traceback.print_exc()
    print(
        f"tinylora_rl: registration with verl failed: {type(error).__name__}: {error}; "
        "reinstall with the pins in requirements/",
        file=sys.stderr,
    )
    sys.exit(EXIT_ENVIRONMENT)
