"""Names are served in the connector's network as the hub says."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import dns.message
import dns.query
import dns.rcode

from connector.conftest import Running, free_port
from connector.fake_hub import ControlEnd, FakeHub, eventually
from isthmus.names.setup import NamesSetup, encode_names_setup
from isthmus.names.zone import Names, RecordSet, RecordType, View, Zone
from isthmus.wire.link.messages import Setup, Status
from names.asking import HUB, PLANT, PRIVATE, serving

WAIT_SECONDS = 5.0
OTHER = View((Zone("isthmus.test", (RecordSet(HUB, RecordType.A, ("10.9.9.9",)),)),))


async def test_names_are_served_over_both_transports(
    hub: FakeHub, run: Callable[..., Awaitable[Running]], loopback_addresses: Callable[[], str]
) -> None:
    address = loopback_addresses()
    port = free_port(address)
    hub.setup = Setup(generation=1, names=encode_names_setup(NamesSetup(PLANT, (address,), port=port)))
    await (await run(hub)).set_up()
    for query in (dns.query.udp, dns.query.tcp):
        said = await asyncio.to_thread(query, dns.message.make_query(HUB, "A"), address, WAIT_SECONDS, port)
        texts = [line for each in said.answer for line in each.to_text().splitlines()]
        assert [text.split()[-1] for text in texts] == [f"{PRIVATE}.", "10.1.0.5"]


async def test_a_change_counts_from_the_next_query_on(
    hub: FakeHub, run: Callable[..., Awaitable[Running]], loopback_addresses: Callable[[], str]
) -> None:
    address = loopback_addresses()
    port = free_port(address)
    hub.setup = Setup(generation=1, names=encode_names_setup(NamesSetup(PLANT, (address,), port=port)))
    running = await run(hub)
    await running.set_up()
    control = await hub.control()
    control.say(Setup(generation=2, names=encode_names_setup(NamesSetup(OTHER, (address,), port=port))))
    await running.set_up()
    said = await asyncio.to_thread(dns.query.udp, dns.message.make_query(HUB, "A"), address, WAIT_SECONDS, port)
    assert "10.9.9.9" in said.answer[0].to_text()
    control.say(Setup(generation=3))
    await running.set_up()
    assert _is_free(address, port)


async def test_other_names_are_asked_of_the_servers_that_the_hub_names(
    hub: FakeHub, run: Callable[..., Awaitable[Running]], loopback_addresses: Callable[[], str]
) -> None:
    address, elsewhere = loopback_addresses(), loopback_addresses()
    port = free_port(address)
    with serving(Names(OTHER), address=elsewhere) as upstream:
        names = NamesSetup(View(), (address,), (f"{elsewhere}:{upstream}",), port)
        hub.setup = Setup(generation=1, names=encode_names_setup(names))
        await (await run(hub)).set_up()
        said = await asyncio.to_thread(dns.query.udp, dns.message.make_query(HUB, "A"), address, WAIT_SECONDS, port)
    assert "10.9.9.9" in said.answer[0].to_text()


async def test_an_address_without_a_service_is_reported(
    hub: FakeHub, run: Callable[..., Awaitable[Running]], loopback_addresses: Callable[[], str]
) -> None:
    address = loopback_addresses()
    with socket.create_server((address, 0)) as taken:
        port = taken.getsockname()[1]
        hub.setup = Setup(generation=1, names=encode_names_setup(NamesSetup(PLANT, (address,), port=port)))
        await run(hub)
        status = await _status(await hub.control())
        assert [(each.listening, each.reason) for each in status.names] == [(False, f"port {port} is in use")]


async def test_names_that_cannot_be_read_leave_the_service_as_it_was(
    hub: FakeHub, run: Callable[..., Awaitable[Running]], loopback_addresses: Callable[[], str]
) -> None:
    address = loopback_addresses()
    port = free_port(address)
    hub.setup = Setup(generation=1, names=encode_names_setup(NamesSetup(PLANT, (address,), port=port)))
    running = await run(hub)
    await running.set_up()
    (await hub.control()).say(Setup(generation=2, names={"listeners": 7}))
    await running.set_up()
    said = await asyncio.to_thread(dns.query.udp, dns.message.make_query(HUB, "A"), address, WAIT_SECONDS, port)
    assert said.rcode() == dns.rcode.NOERROR


async def _status(control: ControlEnd) -> Status:
    await eventually(lambda: any(isinstance(each, Status) for each in control.said))
    return next(each for each in control.said if isinstance(each, Status))


def _is_free(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probing:
        probing.bind((address, port))
    return True
