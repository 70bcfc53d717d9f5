"""What ends a verb: exit codes, and errors whose message is one line for the user."""

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_ENVIRONMENT = 3
EXIT_SIGNAL = 75


class ConfigError(ValueError):
    """The configuration cannot work; exit code 2. One line: key and value, what is wrong, mend."""

    exit_code = EXIT_CONFIG


class MachineError(RuntimeError):
    """The machine or the installation cannot run it; exit code 3."""

    exit_code = EXIT_ENVIRONMENT
