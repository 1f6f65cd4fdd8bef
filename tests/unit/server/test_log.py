"""What never stands in a log line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog

from veredus.server import log
from veredus.server.config import Log
from veredus.server.secret import Secret

Lines = Callable[[], list[dict[str, object]]]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Lines]:
    """The JSON lines logged so far."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    log.configure(Log(format="json", level="debug"))
    yield lambda: [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    root.handlers[:], root.level = before
    structlog.reset_defaults()


def test_a_line_is_one_json_object_with_time_level_and_fields(lines: Lines) -> None:
    structlog.get_logger().info("started", port=8080)
    (line,) = lines()
    assert line["event"] == "started"
    assert line["level"] == "info"
    assert line["port"] == 8080
    assert str(line["timestamp"]).endswith("Z")


@pytest.mark.parametrize("name", ["content", "password", "device_token", "accessToken", "phone", "phone_number", "Authorization"])
def test_fields_with_telling_names_are_hidden_at_any_depth(lines: Lines, name: str) -> None:
    structlog.get_logger().info("x", **{name: "hunter2"}, nested={"deep": [{name: "hunter2"}]})
    text = json.dumps(lines())
    assert "hunter2" not in text
    assert text.count("[redacted]") == 2


@pytest.mark.parametrize("name", ["content_bytes", "token_count", "contentLength", "client", "spinning", "code"])
def test_measures_of_such_things_and_other_words_are_shown(lines: Lines, name: str) -> None:
    structlog.get_logger().info("x", **{name: 17})
    assert lines()[0][name] == 17


def test_bytes_are_told_by_their_length_only(lines: Lines) -> None:
    structlog.get_logger().info("x", payload=b"hunter2", more=[b"12"])
    assert lines()[0]["payload"] == "[7 bytes]"


def test_a_secret_shows_nothing_wherever_it_is_put(lines: Lines) -> None:
    structlog.get_logger().info(f"x {Secret('hunter2')}", setting=Secret("hunter2"), many=[Secret("hunter2")])
    assert "hunter2" not in json.dumps(lines())


def test_texts_lose_passwords_of_urls_and_headers(lines: Lines) -> None:
    structlog.get_logger().info("connecting to postgresql://me:hunter2@host/db with Basic aHVudGVyMjpodW50ZXIy now")
    (line,) = lines()
    assert line["event"] == "connecting to postgresql://[redacted]@host/db with Basic [redacted] now"


class RowError(Exception):
    """As asyncpg shows a violated constraint."""

    def __str__(self) -> str:
        return "duplicate key\nDETAIL:  Key (phone)=(+4915112345678) already exists."


def test_a_traceback_shows_no_locals_and_no_values_of_rows(lines: Lines) -> None:
    password = "hunter2"
    try:
        raise RowError(len(password))
    except RowError:
        structlog.get_logger().exception("failed")
    text = json.dumps(lines())
    assert "duplicate key" in text
    assert "RowError" in text
    assert "+4915112345678" not in text
    assert "hunter2" not in text.replace('password = \\"hunter2\\"', "")


def test_libraries_that_log_pass_the_same_net(lines: Lines) -> None:
    logging.getLogger("some.library").warning("lost redis://:%s@host", "hunter2", extra={"token": "hunter2"})
    (line,) = lines()
    assert line["event"] == "lost redis://[redacted]@host"
    assert "hunter2" not in json.dumps(line)


def test_lines_that_say_who_asked_for_what_are_not_written(lines: Lines) -> None:
    logging.getLogger("uvicorn.access").info('127.0.0.1 - "PUT /v1/messages/5f0c"')
    logging.getLogger("httpx").info("HTTP Request: POST https://example.org")
    assert lines() == []


def test_lines_for_people_pass_the_same_net(capsys: pytest.CaptureFixture[str], lines: Lines) -> None:
    log.configure(Log(format="console"))
    structlog.get_logger().warning("x", password="hunter2", port=1)
    written = capsys.readouterr().err
    assert "hunter2" not in written
    assert "port" in written


def test_a_line_that_cannot_be_formatted_says_where_and_not_what(capsys: pytest.CaptureFixture[str], lines: Lines) -> None:
    record = logging.LogRecord("some.library", logging.WARNING, __file__, 7, "%d", ("hunter2",), None)
    logging.getLogger().handlers[0].handle(record)  # directly: pytest's own handler raises
    written = capsys.readouterr().err
    assert "hunter2" not in written
    assert "a log line of some.library:7 cannot" in written
