"""One thread for this package."""

from tests.one_thread import one_thread  # noqa: F401
