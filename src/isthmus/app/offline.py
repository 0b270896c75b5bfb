"""What can be answered from the folder of a server that does not run."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

from isthmus.access.journal import Verdict
from isthmus.access.sealed_folder import open_sealed_folder
from isthmus.app.backups import backup_stopped
from isthmus.app.domain import Domain, https_port_used, management_api
from isthmus.app.sealing import command_sources
from isthmus.app.stores import STATE_FILE, in_a_sentence
from isthmus.backends.data_folder import require_whole
from isthmus.backends.sqlite import SqliteState
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, RandomIds
from isthmus.base.state import NO_HUB, JournalLimit
from isthmus.devices.views import identity_to_wire
from isthmus.servers.management.arm import change_of
from isthmus.servers.management.backup_calls import destination_of
from isthmus.servers.management.request import Call, Reply, call_of, refused

NOTHING_PRUNED = JournalLimit(2**62)
"""The configuration is not known here, so what it lets go and when is left to the next start."""


def offline(data: Path, method: str, target: str, body: bytes = b"") -> tuple[int, bytes] | None:
    """Answers a reading call, or makes a backup, from the folder of a server that does not run.

    None when that cannot be done. Raises `ConfigurationError` when a server has the folder open after all.
    """
    if not (data / STATE_FILE).is_file() or method not in ("GET", "POST"):
        return None
    require_whole(data)
    call = call_of(method, target, body=body, who=f"owner:uid:{os.getuid()}")
    if (call.method, call.path) == ("POST", ("backup",)):
        return asyncio.run(_offline_backup(data, call))
    return asyncio.run(_offline(data, call))


async def _offline_backup(data: Path, call: Call) -> tuple[int, bytes]:
    try:
        reply = Reply(value=await backup_stopped(data, destination_of(call)))
    except HubError as error:
        reply = refused(error)
    return reply.status, reply.body


async def _offline(data: Path, call: Call) -> tuple[int, bytes] | None:
    """Answers from the state alone; the log is not opened."""
    sealer = open_sealed_folder(data, command_sources(), reading=True).sealer
    state = await SqliteState.open(data / STATE_FILE, journal=NOTHING_PRUNED, sealer=sealer)
    try:
        with in_a_sentence():
            return await _offline_answer(state, call)
    finally:
        await state.close()


async def _offline_answer(state: SqliteState, call: Call) -> tuple[int, bytes] | None:
    domain = Domain(state, SystemClock(), RandomIds(), lambda _place, _address: "")
    await domain.hubs.load()
    await domain.namespaces.load()
    await domain.event_hubs.load(each.number for each in domain.namespaces.all())
    await domain.service_bus.entities.load(each.number for each in domain.namespaces.all())
    if "microsoft.servicebus" in map(str.lower, call.path):
        # Numbers of messages are part of what is told of queues.
        await domain.service_bus.bus.queues.start(each.number for each in domain.service_bus.entities.all())
    await domain.accounts.load()
    await domain.networks.load()
    await domain.endpoints.load()
    await domain.tokens.load()
    await domain.connectors.load()
    await domain.zones.load()
    match call.path:
        case ("hubs", name, "devices", device_id) if call.method == "GET":
            return await _offline_identity(domain, call, name, DeviceRef(NO_HUB, device_id))
        case ("hubs", name, "devices", device_id, "modules", module_id) if call.method == "GET":
            return await _offline_identity(domain, call, name, DeviceRef(NO_HUB, device_id, module_id))
        case ("audit", *_) if call.method != "GET":
            return None
        case ("hubs",) | ("explain",) | ("connectors", *_) | ("audit", *_) | ("tokens", *_) | ("subscriptions", *_):
            port = await https_port_used(state)
            reply = await management_api(domain, list, lambda: port, _not_offline).answer(call)
            return reply.status, reply.body
        case _:
            return None


async def _not_offline(host_name: str) -> None:
    raise HubError(Code.INVALID_OPERATION, f"No server runs that could serve {host_name}")


async def _offline_identity(domain: Domain, call: Call, hub_name: str, device: DeviceRef) -> tuple[int, bytes]:
    try:
        hub = domain.hubs.require(hub_name)
        found = await domain.registry.view(device._replace(hub=hub.number))
        read = change_of(call, hub.name, "keys of an identity read")
        domain.journal.write(replace(read, verdict=Verdict.READ, device=device.name))
    except HubError as error:
        reply = refused(error)
    else:
        reply = Reply(value=identity_to_wire(found, 0))
    return reply.status, reply.body
