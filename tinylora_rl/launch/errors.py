"""What ends a run before it starts. The message is one line: key, value, mend."""

EXIT_CONFIG = 2
EXIT_ENVIRONMENT = 3
EXIT_SIGNAL = 75


class ConfigError(ValueError):
    """The configuration cannot work; exit code 2."""

    exit_code = EXIT_CONFIG


class MachineError(RuntimeError):
    """The machine or the installation cannot run it; exit code 3."""

    exit_code = EXIT_ENVIRONMENT
