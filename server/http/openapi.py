"""The OpenAPI document: made from the routes, never written by hand, and served by nobody (`python -m veredus.server.http.openapi`)."""

from __future__ import annotations

import json
import sys
from typing import Any

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, Example, SecurityScheme

from veredus.core.errors import CATALOGUE, Code
from veredus.server.http.answers import Healthy, SentMessage, StoredMessages
from veredus.server.http.errors import ErrorBody
from veredus.server.http.sending import PROTOBUF, DeviceMessage, SendMessages

SECURITY: list[dict[str, list[str]]] = [{"device": []}]
REFERENCE = "#/components/schemas/{name}"
DESCRIPTION = "Every refusal has one shape: a number and a name of the error catalogue, a reason for people, and what else helps."


def answer(status: int, shape: type[msgspec.Struct], example: msgspec.Struct, description: str) -> dict[int, ResponseSpec]:
    """How a success looks."""
    shown = Example(value=msgspec.to_builtins(example))
    return {status: ResponseSpec(shape, generate_examples=False, description=description, examples=[shown])}


def refusals(*codes: Code) -> dict[int, ResponseSpec]:
    """How these refusals look: by status, with one example each."""
    by_status: dict[int, list[Code]] = {}
    for code in codes:
        by_status.setdefault(CATALOGUE[code].http_status, []).append(code)
    return {
        status: ResponseSpec(
            ErrorBody,
            generate_examples=False,
            description="; ".join(CATALOGUE[code].reason for code in found),
            examples=[Example(id=code.name, summary=CATALOGUE[code].reason, value=_example(code)) for code in found],
        )
        for status, found in by_status.items()
    }


def config() -> OpenAPIConfig:
    """Title, version and how callers authenticate."""
    scheme = SecurityScheme(type="http", scheme="basic", description="`uuid.device` (or `uuid`: device 1) and the device's secret.")
    return OpenAPIConfig(
        title="Veredus",
        version="1",
        description=DESCRIPTION,
        components=Components(security_schemes={"device": scheme}),
        use_handler_docstrings=True,
    )


def document(app: Litestar) -> dict[str, Any]:
    """The document of an application that was made with `config()`. Paths are the framework's, shapes are those that msgspec checks."""
    made: dict[str, Any] = app.openapi_schema.to_schema()
    _, shapes = msgspec.json.schema_components([SendMessages, SentMessage, StoredMessages, ErrorBody, Healthy], ref_template=REFERENCE)
    made["components"]["schemas"] = shapes
    for operations in made["paths"].values():
        for method, operation in operations.items():
            _keep_ours(operation["responses"])
            _add_headers(operation["responses"])
            if method in ("put", "post"):
                operation["requestBody"] = _send_body()
    stored = made["paths"]["/v1/messages"]["get"]["responses"]["200"]["content"]
    stored[PROTOBUF] = {"schema": {"type": "string", "format": "binary", "description": "`veredus.v1.StoredPage`"}}
    return made


def _keep_ours(responses: dict[str, Any]) -> None:
    """Drop the refusals that the framework documents for itself (ours have another status and shape) and its names of examples."""
    for status, said in list(responses.items()):
        shown = said.get("content", {}).get("application/json", {})
        if int(status) >= 400 and "$ref" not in shown.get("schema", {}):
            del responses[status]
        for example in shown.get("examples", {}).values():
            if isinstance(example, dict):
                example.pop("id", None)


def _add_headers(responses: dict[str, Any]) -> None:
    text = {"schema": {"type": "string"}}
    for status, said in responses.items():
        headers = {"Server-Timing": text | {"description": "Milliseconds: `total`, and for a send `commit`."}}
        if status == "401":
            headers["WWW-Authenticate"] = text | {"description": "The scheme to answer with."}
        if any(CATALOGUE[Code[name]].retryable for name in _names(said)):
            headers["Retry-After"] = text | {"description": "Seconds."}
        said["headers"] = headers


def _names(said: dict[str, Any]) -> list[str]:
    examples = said.get("content", {}).get("application/json", {}).get("examples", {})
    return [name for name in examples if name in Code.__members__]


def _example(code: Code) -> dict[str, Any]:
    body = ErrorBody(code=code, name=code.name, reason=CATALOGUE[code].reason)
    if CATALOGUE[code].retryable:
        body.retry_after_ms = 1000
    if code is Code.DEVICES_MISMATCH:
        body.missing_devices, body.extra_devices = [2], []
    if code is Code.DEVICES_STALE:
        body.stale_devices = [1]
    found: dict[str, Any] = msgspec.to_builtins(body)
    return found


def _send_body() -> dict[str, Any]:
    wanted = SendMessages(messages=[DeviceMessage(type=1, destination_device_id=1, content=b"ciphertext")], timestamp=1764000000000)
    return {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": REFERENCE.format(name="SendMessages")},
                "examples": {"one device": {"value": msgspec.to_builtins(wanted)}},
            },
            PROTOBUF: {"schema": {"type": "string", "format": "binary", "description": "`veredus.v1.Send`"}},
        },
    }


def rendered() -> str:
    """The document as it is committed in `docs/openapi.json`."""
    from veredus.server.http.app import documented_app

    return json.dumps(document(documented_app()), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(rendered())
