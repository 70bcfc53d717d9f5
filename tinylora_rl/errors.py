"""Exit codes of the commands, and errors whose message is one line for the user."""

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_ENVIRONMENT = 3
EXIT_SIGNAL = 75


class ConfigError(ValueError):
    """Refuses a configuration, with exit code 2. The message is one line: key, value, fix."""

    exit_code = EXIT_CONFIG


class MachineError(RuntimeError):
    """Refuses the machine or the installation, with exit code 3. One line: key, value, fix."""

    exit_code = EXIT_ENVIRONMENT


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message; the name of its class where it has none."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
