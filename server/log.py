"""Log lines on standard error, JSON or for people. Owns what may stand in them: no secrets, content, phone numbers (P8).

Every line of ours and of libraries passes `redact` and `scrub`. They are the last net: code does not log such things in the first place.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any

import structlog
from structlog.typing import Processor

from veredus.server.config import Log
from veredus.server.secret import REDACTED

# A field is hidden when one of the words of its name is here …
SENSITIVE = frozenset({
    "authorization", "ciphertext", "content", "contents", "cookie", "credential", "credentials", "dsn", "otp", "passphrase", "password",
    "pepper", "phone", "pin", "secret", "ticket", "token", "tokens",
})  # fmt: skip
# … unless its last word makes it a measure of the thing.
MEASURES = frozenset({"bytes", "count", "length", "ms", "seconds", "size", "total"})
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

USER_INFO = re.compile(r"(?<=://)[^\s/@]+@")  # user:password@ in any URL
AUTHORIZATION = re.compile(r"\b(Basic|Bearer) +[A-Za-z0-9+/=._~-]{8,}")
# PostgreSQL puts values of rows in these lines of an error, which asyncpg shows as part of the exception's text.
ROW_VALUES = re.compile(r"^((?:DETAIL|CONTEXT|QUERY|WHERE):).*$", re.MULTILINE)

QUIET = ("httpx", "httpcore", "asyncio")  # they name URLs and tasks at INFO and below
SILENT = ("uvicorn.access",)  # its lines hold addresses and paths: who talks to whom


class StandardError(logging.Handler):
    """Writes to whatever standard error is at that moment. A line that cannot be written is lost: there is nowhere left to say so."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:  # a caller's mistake must not reach him as an exception, nor print what he gave
            line = f"a log line of {record.name}:{record.lineno} cannot be printed: {type(error).__name__}"
        with suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def configure(log: Log) -> None:
    """Send every log of this process to standard error in one format. May be called again."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = StandardError()
    drop_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    render: list[Processor] = [drop_meta, structlog.processors.format_exc_info, redact, scrub, _renderer(log)]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=render))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(log.level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in SILENT:
        logging.getLogger(name).disabled = True


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide the values of fields whose names say that they are not for a log, at any depth."""
    for name, value in event.items():
        event[name] = REDACTED if name != "event" and _sensitive(name) else _inside(value)
    return event


def scrub(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Hide user info of URLs, credentials of headers and values of rows inside texts, exceptions among them."""
    for name, value in event.items():
        if isinstance(value, str):
            value = USER_INFO.sub(f"{REDACTED}@", value)
            value = AUTHORIZATION.sub(rf"\1 {REDACTED}", value)
            event[name] = ROW_VALUES.sub(rf"\1 {REDACTED}", value)
    return event


def _inside(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: REDACTED if _sensitive(str(key)) else _inside(inner) for key, inner in value.items()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"[{len(value)} bytes]"
    if isinstance(value, (list, tuple)):
        return [_inside(each) for each in value]
    return value


def _sensitive(name: str) -> bool:
    words = [word.lower() for word in WORDS.findall(name)]
    return not SENSITIVE.isdisjoint(words) and words[-1] not in MEASURES


def _renderer(log: Log) -> Processor:
    if log.format == "json":
        return structlog.processors.JSONRenderer(sort_keys=False, default=str)
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
