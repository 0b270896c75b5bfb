"""One scenario with azure-eventhub's own client engine as counterpart, without sockets."""

from typing import Any

from azure.eventhub._pyamqp._connection import Connection as PyamqpConnection
from azure.eventhub._pyamqp.constants import LinkState
from azure.eventhub._pyamqp.message import Message, Properties
from azure.eventhub._pyamqp.sasl import SASLAnonymousCredential

from servers.amqp_world import BUILT_IN, ENTITY, AmqpWorld
from servers.gate_world import HOST
from servers.mqtt_world import FakeConnection, settled
from wire.amqp.pyamqp_client import MemoryTransport, PyamqpClient


class PumpTransport(MemoryTransport):
    """What pyamqp takes for a socket; behind it is a pump."""

    def __init__(self, world: AmqpWorld) -> None:
        super().__init__(SASLAnonymousCredential())
        self.pump = world.gateway.make_pump()
        self.connection = FakeConnection(lambda reason: self.pump.closed(reason))
        self.pump.opened(self.connection)

    def write(self, data: bytes) -> None:
        self.pump.received(bytes(data))

    def run_server(self) -> None:
        self._unread += b"".join(self.connection.writes)
        self.connection.writes.clear()


class PumpClient(PyamqpClient):
    """A pyamqp connection to a pump, with one session."""

    def __init__(self, world: AmqpWorld) -> None:
        self.transport = PumpTransport(world)
        self.connection = PyamqpConnection(f"amqps://{HOST}", transport=self.transport)
        self.connection.open()
        self.session = self.connection.create_session(incoming_window=65_536, outgoing_window=65_536)
        self.session.begin()

    async def heard(self) -> None:
        """Lets the hub work, and the client read what it says."""
        await settled()
        self.run()

    async def ask(self, node: str, properties: dict[str, Any], value: Any) -> Any:
        """Sends a request to a node and returns its answer, the receiver attached first as pyamqp does."""
        answers: list[Any] = []
        self.receiver(node, answers)
        requests = self.sender(node)
        request = Message(
            properties=Properties(message_id=len(answers)), application_properties=properties, value=value
        )
        requests.send_transfer(request)
        await self.heard()
        (answer,) = answers
        return answer


async def test_pyamqp_puts_a_token_asks_reads_and_is_robbed(amqp: AmqpWorld) -> None:
    await amqp.tell(b"first", properties={"a": "b"})
    client = PumpClient(amqp)
    token = amqp.doors.policy_token("service", BUILT_IN)
    put = await client.ask("$cbs", {"operation": "put-token", "type": "jwt", "name": BUILT_IN}, token)
    assert put.application_properties[b"status-code"] == 200

    read = {"operation": "READ", "type": "com.microsoft:eventhub", "name": ENTITY}
    described = (await client.ask("$management", read, None)).value
    assert described[b"name"] == b"hub"
    assert list(described[b"partition_ids"]) == [b"0", b"1", b"2", b"3"]

    events: list[Any] = []
    reader = client.receiver(
        f"amqps://{HOST}/{ENTITY}/ConsumerGroups/$Default/Partitions/0",
        events,
        properties={b"com.microsoft:epoch": 1},
    )
    await client.heard()
    await amqp.tell(b"second")
    await client.heard()
    assert [b"".join(event.data) for event in events] == [b"first", b"second"]
    assert events[0].application_properties == {b"a": b"b"}
    assert events[1].message_annotations[b"x-opt-sequence-number"] == 1

    newer = await amqp.consumer()
    await newer.reader(epoch=2)
    await client.heard()
    assert reader.state is LinkState.ERROR
    assert reader._error.condition == b"amqp:link:stolen"
