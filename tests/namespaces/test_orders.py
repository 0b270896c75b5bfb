"""What the root helper may be asked: nothing but what is permitted, in exactly these words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import MsgspecError

from isthmus.base.errors import ConfigurationError
from isthmus.base.sockets import SocketKind
from isthmus.namespaces.orders import (
    PORTS_USUAL,
    Order,
    Permissions,
    Spot,
    Task,
    decode_order,
    permissions_of,
)

LISTEN = Order(Task.LISTEN, "plant", "10.1.0.5", 8883)
NARROW = permissions_of(("plant", "lab"), ("10.1.0.0/24", "fd00::/64"), (8883,), this_machine=False)


@pytest.mark.parametrize(
    "order",
    [
        LISTEN,
        Order(Task.LISTEN, "lab", "fd00::5", 8883, SocketKind.DATAGRAM),
        Order(Task.HOLD, "plant", "10.1.0.255"),
        Order(Task.RELEASE, "plant", "10.1.0.0"),
    ],
)
def test_what_is_permitted_is_done(order: Order) -> None:
    assert NARROW.objection(order) == ""
    assert Permissions().objection(order) == ""


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (Order(Task.LISTEN, "other", "10.1.0.5", 8883), "start it with --namespace other"),
        (Order(Task.LISTEN, "plant", "10.2.0.5", 8883), "start it with --address 10.2.0.5/32"),
        (Order(Task.LISTEN, "plant", "fd01::1", 8883), "start it with --address fd01::1/128"),
        (Order(Task.LISTEN, "plant", "10.1.0.5", 443), "start it with --port 443"),
        (Order(Task.HOLD, "", "10.1.0.5"), "need --this-machine"),
        (Order(Task.HOLD, "other", "10.1.0.5"), "--namespace other"),
        (Order(Task.RELEASE, "plant", "10.2.0.5"), "--address 10.2.0.5/32"),
    ],
)
def test_what_is_not_permitted_is_refused_with_the_flag_that_would_permit_it(order: Order, words: str) -> None:
    assert words in NARROW.objection(order)


@pytest.mark.parametrize(
    "order",
    [
        *(
            Order(Task.LISTEN, name, "10.1.0.5", 8883)
            for name in (".", "..", "../plant", "a/b", "/etc", "-a", "a b", "a\n", "a\0", "ä", "x" * 65)
        ),
        *(
            Order(Task.LISTEN, "plant", address, 8883)
            for address in ("", "plant", "10.1.0.5/24", "10.1.0.05", " 10.1.0.5", "10.1.0.5\n", "fe80::1%e", "FD00::1")
        ),
        *(
            Order(Task.LISTEN, "plant", address, 8883)
            for address in ("0.0.0.0", "::", "224.0.0.1", "ff02::1", "127.0.0.1", "::1", "169.254.0.1", "fe80::1",
                            "255.255.255.255", "::ffff:10.1.0.5")
        ),
        *(Order(Task.LISTEN, "plant", "10.1.0.5", port) for port in (0, -1, 65_536)),
    ],
)  # fmt: skip
def test_what_nobody_may_order_is_refused_whatever_is_permitted(order: Order) -> None:
    assert Permissions(ports=(), this_machine=True).objection(order) != ""


def test_the_machine_itself_needs_a_permission() -> None:
    order = Order(Task.HOLD, "", "10.1.0.5")
    assert "--this-machine" in Permissions().objection(order)
    assert Permissions(this_machine=True).objection(order) == ""


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"task":"listen","namespace":"plant"}',
        b'{"task":"run","namespace":"plant","address":"10.1.0.5"}',
        b'{"task":"listen","namespace":"plant","address":"10.1.0.5","port":"8883"}',
        b'{"task":"listen","namespace":"plant","address":"10.1.0.5","port":1,"kind":"raw"}',
        b'{"task":"listen","namespace":"plant","address":"10.1.0.5","more":1}',
        b'{"task":"listen","namespace":["plant"],"address":"10.1.0.5"}',
        b'{"task":"listen","namespace":"plant","address":"10.1.0.5"}{}',
    ],
)
def test_what_is_not_exactly_an_order_is_none(packet: bytes) -> None:
    with pytest.raises(MsgspecError):
        decode_order(packet)


@given(packet=st.binary(max_size=200))
def test_any_bytes_are_an_order_or_the_one_error(packet: bytes) -> None:
    try:
        Permissions().objection(decode_order(packet))
    except MsgspecError:
        return


@given(st.builds(Order, st.sampled_from(Task), st.text(max_size=9), st.text(max_size=40), st.integers(-9, 99_999)))
def test_no_order_breaks_the_judgement(order: Order) -> None:
    assert isinstance(NARROW.objection(order), str)


def test_a_command_line_is_read() -> None:
    assert permissions_of((), (), (), this_machine=False).ports == PORTS_USUAL
    for wrong in ("10.1.0.1/24", "plant", ""):
        with pytest.raises(ConfigurationError, match="--address takes addresses and CIDR blocks"):
            permissions_of((), (wrong,), (), this_machine=False)
    with pytest.raises(ConfigurationError, match="--namespace takes names of network namespaces"):
        permissions_of(("../a",), (), (), this_machine=False)


def test_an_order_has_a_spot() -> None:
    assert LISTEN.spot == Spot("plant", "10.1.0.5")
