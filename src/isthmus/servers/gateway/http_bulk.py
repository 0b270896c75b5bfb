"""Many identities over the service API: written in bulk, and given new keys (IoT Hub REST reference, "Bulk registry").

A request of which a part failed is answered 400 with the list of errors as its body, and no envelope: clients read the
same result from 200 and from 400.
"""

from collections.abc import Mapping
from dataclasses import replace

from isthmus.devices.identity import Identity
from isthmus.jobs.bulk import BulkRegistry, Renewed, Written
from isthmus.servers.gateway.http_message import Call, Change, Reply, json_reply
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.http_service import Handler


class BulkApi:
    """Answers the calls about many identities."""

    def __init__(self, registry: BulkRegistry) -> None:
        self._registry = registry
        self.handlers: Mapping[Action, Handler] = {Action.BULK: self._write, Action.RENEW_KEYS: self._renew}

    async def _write(self, call: Call) -> Reply:
        written = await self._registry.write(call.hub.number, call.json())
        wire = {"isSuccessful": not written.errors, "errors": _errors(written), "warnings": []}
        reply = json_reply(wire, status=400 if written.errors else 200, change=Change(None, _told(written)))
        return replace(reply, operations=len(written.lines))

    async def _renew(self, call: Call) -> Reply:
        renewed = await self._registry.renew_keys(call.hub.number, call.json())
        wire = {
            "policyKey": renewed.policy_key,
            "rotatedKeys": [_keys(identity) for identity in renewed.identities],
            "errors": [
                {
                    "id": error.device_id,
                    "moduleId": error.module_id or None,
                    "errorCode": error.code.number,
                    "errorStatus": error.reason,
                }
                for error in renewed.errors
            ],
        }
        told = [_name(identity.device_id, identity.module_id) for identity in renewed.identities]
        reply = json_reply(wire, status=_status(renewed), change=Change(None, {renewed.policy_key: told}))
        return replace(reply, operations=len(renewed.identities) + len(renewed.errors))


def _status(renewed: Renewed) -> int:
    """200 when all have new keys, 400 when none has, 207 in between."""
    if not renewed.errors:
        return 200
    return 207 if renewed.identities else 400


def _errors(written: Written) -> list[dict[str, object]]:
    modes = {(line.device_id, line.module_id): line.mode for line in written.lines}
    return [
        {
            "deviceId": error.device_id,
            "errorCode": error.code.wire_name,
            "errorStatus": error.reason,
            "moduleId": error.module_id or None,
            "operation": modes.get((error.device_id, error.module_id)),
        }
        for error in written.errors
    ]


def _told(written: Written) -> dict[str, list[str]]:
    """What was carried out, for the journal: names by mode."""
    failed = {(error.device_id, error.module_id) for error in written.errors}
    told: dict[str, list[str]] = {}
    for line in written.lines:
        if (line.device_id, line.module_id) not in failed:
            told.setdefault(line.mode, []).append(_name(line.device_id, line.module_id))
    return told


def _keys(identity: Identity) -> dict[str, object]:
    return {
        "id": identity.device_id,
        "moduleId": identity.module_id or None,
        "primaryKey": identity.primary_key,
        "secondaryKey": identity.secondary_key,
    }


def _name(device_id: str, module_id: str) -> str:
    return f"{device_id}/{module_id}" if module_id else device_id
