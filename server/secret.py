"""A text that no log, exception or debugger line may show."""

from __future__ import annotations

REDACTED = "[redacted]"


class Secret:
    """Holds a secret text. Shows `[redacted]` in every form of printing; `reveal` is the one way to it, easy to find in a review."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return REDACTED

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce__(self) -> str:
        raise TypeError("a secret is not to be pickled")
