"""The one exception of a start that cannot go on: its text is one line for the operator. Never holds a secret."""

from __future__ import annotations


class StartFailed(Exception):
    """Something needed to start is missing or wrong. `str()` says what, why, and what to do, in one line."""
