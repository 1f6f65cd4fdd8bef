"""What an operator can set, from a YAML file and the environment, checked before anything starts (INF-2, INF-22).

Owns names, types, defaults and their checks. Opens no connection. Every fault is one `StartFailed` line: where, which key, why. The order:
what the caller fixes, then the environment, then the file, then the defaults here. Unknown keys are faults: a misspelt setting that is
silently ignored is found out in production.

The environment has the file's keys in capitals, joined by `_` behind `VEREDUS_`: `VEREDUS_LISTEN_PORT`, `VEREDUS_LIMITS_WINDOW`; lists are
separated by commas. `DATABASE_URL` and `REDIS_URL` have their usual names.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from veredus.core.limits import Limits
from veredus.server import settings
from veredus.server.failure import StartFailed
from veredus.server.secret import Secret

OFF_AT_ZERO = ("messages_per_minute", "messages_burst")
SECRET_BYTES = 32  # 256 bits, as many as the hash it keys


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The one port of HTTP and WebSocket. Loopback unless told otherwise: closed by default (P8). Port 0: any free one."""

    address: str = "127.0.0.1"
    port: int = 8080


class Tls(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """PEM files. Without this section the port speaks plain HTTP, for a proxy on the same machine or a private network."""

    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """A server context of TLS 1.3 alone (SEC-1). Raises `StartFailed` when the files do not serve."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["http/1.1"])  # WebSocket is an HTTP/1.1 upgrade
        try:
            # A password callback that gives none: OpenSSL would else ask at the terminal and wait.
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror if not isinstance(error, ssl.SSLError) else "not a certificate and its key in PEM, without a password"
            raise StartFailed(f"tls: {self.certificate}, {self.key}: {reason}") from None
        return context


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Lines on standard error."""

    format: Literal["json", "console"] = "json"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything `serve` needs. Safe to print: secrets show as `[redacted]`."""

    database_url: Secret
    redis_url: Secret | None = None  # the one Redis
    redis_urls: tuple[Secret, ...] = ()  # or several, that share the work; the same ones for every worker, in any order
    ratelimit_redis_url: Secret | None = None  # where limits are agreed (RL-7); left out: the one Redis, or the first of several
    secret_file: Path  # its content keys the hashes of device secrets: lose it and every device must be set up anew
    listen: Listen = Listen()
    tls: Tls | None = None
    origins: tuple[str, ...] = ()  # browsers' pages that may connect; empty: none
    log: Log = Log()
    limits: Limits = Limits()
    shutdown_seconds: float = 20.0  # to drain after SIGTERM; orchestrators kill after 30
    development: bool = False  # /v1/echo and timelines
    data_dir: Path | None = None  # development only: where the embedded stores are

    @property
    def redis_servers(self) -> tuple[Secret, ...]:
        """At least one."""
        return self.redis_urls if self.redis_url is None else (self.redis_url,)

    def pepper(self) -> bytes:
        """The key for the hashes of device secrets, 32 bytes. Raises `StartFailed`."""
        try:
            # Editors and `echo` end files with a newline: not part of the secret.
            content = self.secret_file.read_bytes().strip()
        except OSError as error:
            raise StartFailed(f"secret_file: {self.secret_file}: {error.strerror}") from None
        if len(content) < SECRET_BYTES:
            raise StartFailed(
                f"secret_file: {self.secret_file}: has fewer than {SECRET_BYTES} bytes; `openssl rand -base64 48` makes a good one"
            )
        return hashlib.blake2b(content, digest_size=SECRET_BYTES, person=b"veredus pepper").digest()


def load(file: Path | None, environment: Mapping[str, str], fixed: Mapping[str, Any] | None = None) -> Config:
    """The configuration, checked as far as possible without a connection. Raises `StartFailed` with one line.

    `fixed` are values that neither file nor environment may change.
    """
    fixed = fixed or {}
    given = settings.read(file) if file else {}
    if file:
        _anchor(given, file.absolute().parent)
    source = str(file) if file else "configuration"
    sources = {}
    for name, path, value in settings.variables(Config, environment):
        if path[0] not in fixed:
            sources[".".join(path)] = f"environment: {name}"
            settings.put(given, path, value, f"environment: {name}")
    config = settings.convert({**given, **fixed}, Config, source)
    try:
        _check(config)
    except ValueError as error:
        key, _, reason = str(error).partition(": ")
        raise StartFailed(f"{sources.get(key, source)}: {key}: {reason}") from None
    config.pepper()
    if config.tls:
        config.tls.context()
    return config


def _anchor(given: dict[str, Any], folder: Path) -> None:
    """Paths in a file are relative to the file, wherever the server is started from."""
    for holder, key in ((given, "secret_file"), (given, "data_dir"), (given.get("tls"), "certificate"), (given.get("tls"), "key")):
        if isinstance(holder, dict) and isinstance(holder.get(key), str):
            holder[key] = str(folder / holder[key])


def _check(config: Config) -> None:
    """What types cannot say. Raises `ValueError` with the key first; never shows a URL, which may hold a password."""
    _check_url("database_url", config.database_url, ("postgresql", "postgres"))
    _check_redis(config)
    if config.ratelimit_redis_url is not None:
        _check_url("ratelimit_redis_url", config.ratelimit_redis_url, ("redis", "rediss", "unix"))
    if not 0 <= config.listen.port <= 65535:
        raise ValueError("listen.port: must be 0 to 65535")
    if not 0 < config.shutdown_seconds <= 3600:
        raise ValueError("shutdown_seconds: must be above 0 and at most 3600")
    for origin in config.origins:
        _check_origin(origin)
    _check_limits(config.limits)


def _check_url(key: str, url: Secret, schemes: tuple[str, ...]) -> None:
    try:
        scheme = urlsplit(url.reveal()).scheme
    except ValueError:
        scheme = ""
    if scheme not in schemes:
        raise ValueError(f"{key}: must be a URL that begins with {' or '.join(f'{each}://' for each in schemes)}")


def _check_redis(config: Config) -> None:
    if not config.redis_servers:
        raise ValueError("redis_url: is not set")
    if config.redis_url and config.redis_urls:
        raise ValueError("redis_urls: redis_url is set as well; give one of them")
    seen = set()
    for url in config.redis_servers:
        _check_url("redis_urls" if config.redis_urls else "redis_url", url, ("redis", "rediss", "unix"))
        parts = urlsplit(url.reveal())
        seen.add((parts.netloc.rpartition("@")[2].lower(), parts.path, parts.query))
    if len(seen) != len(config.redis_servers):
        raise ValueError("redis_urls: one server stands twice")


def _check_origin(origin: str) -> None:
    parts = urlsplit(origin)
    if parts.scheme not in ("http", "https") or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}".lower() or "@" in origin:
        raise ValueError(f"origins: {origin!r} must be scheme://host or scheme://host:port in lower case, as browsers send it")


def _check_limits(limits: Limits) -> None:
    values: dict[str, float] = msgspec.structs.asdict(limits)
    for name, value in values.items():
        if name in OFF_AT_ZERO and not 0 <= value <= 10**9:
            raise ValueError(f"limits.{name}: must be 0 to 1000000000")
        if name not in OFF_AT_ZERO and not 0 < value < 2**53:  # also refuses what is not a number, and infinity
            raise ValueError(f"limits.{name}: must be above 0 and finite")
    for low, high in (
        ("content_bytes", "message_bytes"),
        ("message_bytes", "partial_bytes_per_worker"),
        ("lane_pause_bytes", "lane_bytes"),
        ("page_rows", "window"),
    ):
        if values[low] > values[high]:
            raise ValueError(f"limits.{low}: must not be above limits.{high}")
