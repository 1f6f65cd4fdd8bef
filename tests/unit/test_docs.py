"""Documents that repeat what the code says are held against it. `python -m tests.unit.test_docs` rewrites them."""

from __future__ import annotations

from pathlib import Path

from veredus.core.errors import CATALOGUE, Code

PROTOCOL = Path(__file__).resolve().parents[2] / "docs" / "protocol.md"
BEGIN = "<!-- catalogue: made from core/errors.py, checked by tests/unit/test_docs.py -->\n"
END = "<!-- /catalogue -->"


def catalogue_table() -> str:
    lines = ["| code | name | means | retryable | HTTP | close |", "|---|---|---|---|---|---|"]
    for code in Code:
        entry = CATALOGUE[code]
        close = entry.close_code or "–"
        retryable = "yes" if entry.retryable else ""
        lines.append(f"| {code.value} | {code.name} | {entry.reason} | {retryable} | {entry.http_status} | {close} |")
    return "\n".join(lines) + "\n"


def with_catalogue(text: str) -> str:
    head, rest = text.split(BEGIN)
    return head + BEGIN + catalogue_table() + END + rest.split(END)[1]


def test_the_protocol_page_has_the_catalogue_as_it_is() -> None:
    text = PROTOCOL.read_text(encoding="utf-8")
    assert with_catalogue(text) == text


def test_every_code_has_an_entry_and_every_close_code_may_be_sent() -> None:
    """RFC 6455 7.4: 1004 to 1006 and 1015 never travel, 4000 to 4999 are ours."""
    assert set(CATALOGUE) == set(Code)
    for entry in CATALOGUE.values():
        assert entry.close_code is None or entry.close_code in {1002, 1003, 1007, 1009, 1011, 1012, 1013} or 4000 <= entry.close_code < 5000


if __name__ == "__main__":
    PROTOCOL.write_text(with_catalogue(PROTOCOL.read_text(encoding="utf-8")), encoding="utf-8")
