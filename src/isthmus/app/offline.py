"""What can be answered from the folder of a server that does not run."""

import asyncio
import os
from pathlib import Path

from isthmus.app.domain import Domain, https_port_used, management_api
from isthmus.app.stores import STATE_FILE, in_a_sentence
from isthmus.backends.sqlite import SqliteState
from isthmus.base.clock import SystemClock
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef, RandomIds
from isthmus.devices.views import identity_to_wire
from isthmus.servers.management.request import Call, Reply, call_of, refused


def offline(data: Path, method: str, target: str) -> tuple[int, bytes] | None:
    """Answers a reading call from the folder of a server that does not run; None when that cannot be done.

    Raises `ConfigurationError` when a server has the folder open after all.
    """
    if not (data / STATE_FILE).is_file() or method not in ("GET", "POST"):
        return None
    return asyncio.run(_offline(data, method, target))


async def _offline(data: Path, method: str, target: str) -> tuple[int, bytes] | None:
    """Answers from the state alone; the log is not opened."""
    state = await SqliteState.open(data / STATE_FILE)
    try:
        with in_a_sentence():
            return await _offline_answer(state, call_of(method, target, who=f"owner:uid:{os.getuid()}"))
    finally:
        await state.close()


async def _offline_answer(state: SqliteState, call: Call) -> tuple[int, bytes] | None:
    domain = Domain(state, SystemClock(), RandomIds(), lambda _place, _address: "")
    await domain.hubs.load()
    await domain.networks.load()
    await domain.endpoints.load()
    match call.path:
        case ("hubs", name, "devices", device_id) if call.method == "GET":
            return await _offline_identity(domain, name, device_id, "")
        case ("hubs", name, "devices", device_id, "modules", module_id) if call.method == "GET":
            return await _offline_identity(domain, name, device_id, module_id)
        case ("hubs",) | ("explain",) | ("subscriptions", *_):
            port = await https_port_used(state)
            reply = await management_api(domain, list, lambda: port, _not_offline).answer(call)
            return reply.status, reply.body
        case _:
            return None


async def _not_offline(host_name: str) -> None:
    raise HubError(Code.INVALID_OPERATION, f"No server runs that could serve {host_name}")


async def _offline_identity(domain: Domain, hub_name: str, device_id: str, module_id: str) -> tuple[int, bytes]:
    try:
        ref = DeviceRef(domain.hubs.require(hub_name).number, device_id, module_id)
        found = await domain.registry.view(ref)
    except HubError as error:
        reply = refused(error)
    else:
        reply = Reply(value=identity_to_wire(found, 0))
    return reply.status, reply.body
