"""Messages to services over HTTPS: handed out under a lock, given back, completed."""

import pytest

from commands.storage import notification_queue
from devices.fakes import HUB, CountedIds, StandingClock
from isthmus.backends.memory import MemoryState
from isthmus.base.errors import Code, HubError
from isthmus.base.ids import DeviceRef
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.http_message import Call
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.http_servicebound import servicebound_handlers

PLANT = Hub(HUB, "hub", "hub.isthmus.test", 1, 0)
BODY = b'{"deviceId":"press"}'


async def test_a_file_notification_is_received_given_back_and_completed() -> None:
    queue = notification_queue(MemoryState(), StandingClock(), CountedIds(), lambda number: PLANT)
    handlers = servicebound_handlers(queue, queue)
    receive = handlers[Action.RECEIVE_FILE_NOTIFICATION]
    assert (await receive(asked())).status == 204
    await queue.send(HUB, BODY)
    first = await receive(asked())
    assert (first.status, first.body) == (200, BODY)
    assert first.headers["Content-Type"].startswith("application/json")
    assert (first.headers["iothub-userid"], first.headers["iothub-deliverycount"]) == ("hub", "0")
    assert (await receive(asked())).status == 204
    assert (await handlers[Action.ABANDON_FILE_NOTIFICATION](asked(first.headers["ETag"].strip('"')))).status == 204
    again = await receive(asked())
    assert again.headers["iothub-deliverycount"] == "1"
    token = again.headers["ETag"].strip('"')
    complete = handlers[Action.COMPLETE_FILE_NOTIFICATION]
    assert (await complete(asked(token))).status == 204
    with pytest.raises(HubError) as lost:
        await complete(asked(token))
    assert lost.value.code is Code.MESSAGE_LOCK_LOST
    assert (await receive(asked())).status == 204
    await queue.close()


def asked(token: str = "") -> Call:
    return Call(PLANT, DeviceRef(HUB, ""), {}, {}, b"", token)
