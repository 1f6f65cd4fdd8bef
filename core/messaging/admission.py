"""Who may send what to whom: the one place where a send is judged before it is stored."""

from __future__ import annotations

from veredus.core.errors import Code
from veredus.core.model import Account, Device, Principal, Reply, Submission
from veredus.ext.envelope import Send


def judge(send: Send, principal: Principal, recipient: Account | None, sender: Account | None) -> Submission | Reply:
    """Match a send with the recipient's devices.

    Every active device must have exactly one content (the sending device itself excepted), encrypted for its present registration;
    otherwise nothing of it is accepted and the answer names the difference: DEVICES_MISMATCH with missing and extra devices, or
    DEVICES_STALE with those registered anew.
    """
    if recipient is None:
        return Reply(client_id=send.client_id, code=Code.UNKNOWN_RECIPIENT)
    refusal = _compare_devices(send, principal, recipient)
    if refusal is not None:
        return refusal
    return Submission(
        send=send,
        sender=principal.device_id,
        sealed=send.sealed,
        account_id=recipient.id,
        devices_version=recipient.devices_version,
        targets=tuple([recipient.devices[number].id for number in send.devices]),
        needs_sync=sender is not None and len(sender.devices) > 1,
    )


def _compare_devices(send: Send, principal: Principal, recipient: Account) -> Reply | None:
    devices = recipient.devices
    to_self = recipient.uuid == principal.account
    expected = len(devices) - (1 if to_self and principal.device in devices else 0)
    if len(send.devices) == expected and _all_known(send, devices, principal.device if to_self else 0):
        stale = tuple(
            [
                number
                for number, registration in zip(send.devices, send.registration_ids, strict=True)
                if registration and registration != devices[number].registration_id
            ]
        )
        return Reply(client_id=send.client_id, code=Code.DEVICES_STALE, stale_devices=stale) if stale else None
    addressed = set(send.devices)
    wanted = {number for number in devices if not (to_self and number == principal.device)}
    return Reply(
        client_id=send.client_id,
        code=Code.DEVICES_MISMATCH,
        missing_devices=tuple(sorted(wanted - addressed)),
        extra_devices=tuple(sorted(addressed - wanted)),
    )


def _all_known(send: Send, devices: dict[int, Device], own: int) -> bool:
    return all(number in devices and number != own for number in send.devices)
