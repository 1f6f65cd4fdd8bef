"""Loads the fixtures every folder of tests may use."""

import signal

pytest_plugins = ["pytester", "tests.needs", "tests.stores"]


def pytest_configure() -> None:
    """Begun in the background or under nohup, a run is deaf to some signals, and what it starts would inherit that by exec.

    A handler that does nothing is as deaf, and is not inherited.
    """
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
