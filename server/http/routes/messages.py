"""/v1/messages: send to an account, read one's own mailbox, delete from it. Decodes, calls the core, encodes."""

from __future__ import annotations

import time
from functools import partial
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, delete, get, route
from litestar.enums import HttpMethod
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from veredus.core.errors import Code, PeerError
from veredus.core.messaging.pull import Pull, Pulled
from veredus.core.model import Reply
from veredus.ext.envelope import Send
from veredus.server.http.answers import ChargedResponse, SentMessage, StoredMessages
from veredus.server.http.auth import ACCESS, Access, principal
from veredus.server.http.body import ByteBudget, Charge, held_body
from veredus.server.http.envelope import StoredMessage, stored_message, stored_page
from veredus.server.http.errors import refused_send
from veredus.server.http.openapi import SECURITY, answer, refusals
from veredus.server.http.origin import RequestOrigin
from veredus.server.http.sending import PROTOBUF, json_send, parse_uuid, protobuf_send
from veredus.server.http.services import HttpServices

JSON = "application/json"
SOME_UUID = UUID("01234567-89ab-4def-8123-456789abcdef")
SENT = SentMessage(needs_sync=False, guid=SOME_UUID, server_timestamp=1764000000123)
STORED = StoredMessage(
    guid=SOME_UUID,
    type=1,
    source=SOME_UUID,
    source_device=1,
    timestamp=1764000000000,
    server_timestamp=1764000000123,
    content=b"ciphertext",
    urgent=True,
)

AnyRequest = Request[Any, Any, Any]
Path = Annotated[str, PathParameter(description="A UUID.")]
Key = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        required=False,
        description="A UUID. Repeating a request with the same key makes no second message and gets the first answer, for at least 24 h. "
        "Without one the key is derived from destination, timestamp and contents.",
    ),
]
After = Annotated[
    int,
    QueryParameter(
        name="after", ge=0, le=2**63 - 1, description="Milliseconds: leave out what was stored before (but for the last minute before)."
    ),
]


@route(
    "/v1/messages/{uuid:str}",
    http_method=[HttpMethod.PUT, HttpMethod.POST],
    status_code=200,
    opt={ACCESS: Access.DEVICE},
    security=SECURITY,
    summary="Send one message to all devices of an account",
    responses=answer(200, SentMessage, SENT, "Durable. `needsSync`: the sender has other devices to tell.")
    | refusals(
        *(Code.UNAUTHENTICATED, Code.UNKNOWN_RECIPIENT, Code.DEVICES_MISMATCH, Code.DEVICES_STALE),
        *(Code.INVALID_TEXT, Code.MALFORMED_FRAME, Code.MESSAGE_TOO_BIG, Code.TOO_LARGE, Code.UNSUPPORTED_DATA, Code.TIMEOUT),
        *(Code.INVALID_REQUEST, Code.INVALID_DESTINATION, Code.INVALID_CLIENT_ID, Code.INVALID_TYPE, Code.IDEMPOTENCY_MISMATCH),
        *(Code.RATE_LIMITED, Code.BUSY, Code.UNAVAILABLE, Code.RESULT_UNKNOWN, Code.SHUTTING_DOWN, Code.INTERNAL),
    ),
)
async def send_message(request: AnyRequest, uuid: Path, key: Key = None) -> Response[Any]:
    """Answered only after the message is durable. Every active device of the account needs exactly one content."""
    services: HttpServices = request.app.state.services
    destination = parse_uuid(uuid, Code.INVALID_DESTINATION)
    client_id = None if key is None else parse_uuid(key, Code.INVALID_CLIENT_ID)
    read = {JSON: json_send, "": json_send, PROTOBUF: protobuf_send}.get(request.content_type[0].lower())
    if read is None:
        raise PeerError(Code.UNSUPPORTED_DATA, f"the body is {JSON} or {PROTOBUF}")
    bodies: ByteBudget = request.app.state.bodies
    async with held_body(request, bodies, services.limits) as body:
        send = read(body, destination, client_id, principal(request), services.limits)
        began = time.perf_counter()
        reply = await _accepted(request, services, send)
        milliseconds = (time.perf_counter() - began) * 1000
    return _answer(request, services, reply, {"Server-Timing": f"commit;dur={milliseconds:.3f}"})


async def _accepted(request: AnyRequest, services: HttpServices, send: Send) -> Reply:
    origin = RequestOrigin(send.client_id)
    services.sends.accept(origin, principal(request), [send])
    return await origin.reply(services.limits.http_answer_seconds)


def _answer(request: AnyRequest, services: HttpServices, reply: Reply, timing: dict[str, str]) -> Response[Any]:
    if reply.code is Code.OK:
        sent = SentMessage(needs_sync=reply.needs_sync, guid=UUID(bytes=reply.guid), server_timestamp=reply.server_timestamp)
        return Response(sent, headers=timing)
    services.metrics.refused(reply.code)
    refused = refused_send(reply)
    refused.headers.update(timing)
    return refused


@get(
    "/v1/messages",
    opt={ACCESS: Access.DEVICE},
    security=SECURITY,
    summary="Read the stored messages of the calling device",
    responses=answer(200, StoredMessages, StoredMessages([STORED], more=False), "At most 100, the oldest first.")
    | refusals(Code.UNAUTHENTICATED, Code.INVALID_REQUEST, Code.BUSY, Code.UNAVAILABLE, Code.INTERNAL),
)
async def stored_messages(request: AnyRequest, after: After = 0) -> Response[Any]:
    """They stay until they are deleted by guid (or acknowledged over WebSocket). `Accept: application/x-protobuf` answers StoredPage."""
    services: HttpServices = request.app.state.services
    pull: Pull = request.app.state.pull
    answers: ByteBudget = request.app.state.answers
    pulled = await pull.pull(principal(request).device_id, after)
    charge = Charge(answers)
    charge.grow(sum(len(row.envelope) for row in pulled.rows))
    try:
        media_type = PROTOBUF if request.accept.best_match([JSON, PROTOBUF], default=JSON) == PROTOBUF else JSON
        return ChargedResponse(
            _page(pulled, media_type), charge, media_type, services.limits, partial(services.metrics.refused, Code.TIMEOUT)
        )
    except BaseException:
        charge.end()
        raise


def _page(pulled: Pulled, media_type: str) -> bytes:
    if media_type == PROTOBUF:
        return stored_page(pulled.rows, pulled.more)
    return msgspec.json.encode(StoredMessages([stored_message(row) for row in pulled.rows], pulled.more))


@delete(
    "/v1/messages/{guid:str}",
    status_code=204,
    opt={ACCESS: Access.DEVICE},
    security=SECURITY,
    summary="Acknowledge one stored message: the server forgets it",
    responses=refusals(Code.UNAUTHENTICATED, Code.NOT_FOUND, Code.INVALID_REQUEST, Code.UNAVAILABLE, Code.INTERNAL),
)
async def delete_message(request: AnyRequest, guid: Path) -> None:
    """Deletes from the calling device's mailbox alone."""
    services: HttpServices = request.app.state.services
    if not await services.mailboxes.remove_guid(principal(request).device_id, parse_uuid(guid, Code.INVALID_REQUEST)):
        raise PeerError(Code.NOT_FOUND)
