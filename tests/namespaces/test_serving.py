"""The helper as a process with the capabilities of its unit: whom it serves, what it adds, that it leaves nothing."""

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from isthmus.base.sockets import SocketKind
from isthmus.namespaces.keeping import ORPHAN_SECONDS, Keeping
from isthmus.namespaces.orders import ORDER_BYTES_MAX, Answer, Order, Permissions, Task, decode_answer
from isthmus.namespaces.record import Record
from support.namespace_helper import NOBODY, RunningHelper, as_nobody
from support.netns import Namespace, add_namespace, join, namespaces
from support.server import ISTHMUS, POLL_SECONDS

WAIT_SECONDS = 20.0
ADDRESS = "10.1.0.5"
PORT = 8883


@pytest.fixture
def pair(own_folder: Path) -> Iterator[tuple[Namespace, Namespace]]:
    """A plant's network, and a client in it."""
    del own_folder
    with namespaces(2) as (plant, client):
        join(plant, "10.1.0.1/24", client, "10.1.0.2/24")
        yield plant, client


@pytest.fixture
def helper(own_folder: Path) -> Iterator[RunningHelper]:
    """One that serves root, whom these tests run as."""
    made = RunningHelper(own_folder)
    made.start()
    yield made
    made.kill()


class Asking:
    """One connection to a helper."""

    def __init__(self, helper: RunningHelper) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(WAIT_SECONDS)
        self.socket.connect(str(helper.socket))

    def order(self, order: Order) -> Answer:
        answer, opened = self.ordered(order)
        if opened is not None:
            opened.close()
        return answer

    def ordered(self, order: Order) -> tuple[Answer, socket.socket | None]:
        self.socket.send(msgspec.json.encode(order))
        packet, descriptors, _, _ = socket.recv_fds(self.socket, ORDER_BYTES_MAX, 4)
        assert len(descriptors) <= 1
        return decode_answer(packet), socket.socket(fileno=descriptors[0]) if descriptors else None

    def __enter__(self) -> "Asking":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def listen(plant: Namespace, address: str = ADDRESS, kind: SocketKind = SocketKind.STREAM) -> Order:
    return Order(Task.LISTEN, plant.name, address, PORT, kind)


def test_a_passed_socket_serves_the_namespace(helper: RunningHelper, pair: tuple[Namespace, Namespace]) -> None:
    plant, client = pair
    with Asking(helper) as asking:
        answer, opened = asking.ordered(listen(plant))
        assert (answer.reason, opened is not None) == ("", True)
        assert opened is not None
        assert opened.getsockname() == (ADDRESS, PORT)
        assert plant.addresses() == {"10.1.0.1/24", "10.1.0.5/32"}
        with opened:
            assert reached_from(client, opened)
    helper.stop()


def test_datagrams_are_served_as_well(helper: RunningHelper, pair: tuple[Namespace, Namespace]) -> None:
    plant, client = pair
    with Asking(helper) as asking:
        _, opened = asking.ordered(listen(plant, kind=SocketKind.DATAGRAM))
        assert opened is not None
        with opened:
            opened.settimeout(WAIT_SECONDS)
            said = f"import socket as s; s.socket(s.AF_INET, s.SOCK_DGRAM).sendto(b'hello', ('{ADDRESS}', {PORT}))"
            client.run(sys.executable, "-c", said)
            opened.setblocking(True)
            assert opened.recv(10) == b"hello"


def test_an_ipv6_address_can_be_used_at_once(helper: RunningHelper, own_folder: Path) -> None:
    with namespaces(2) as (plant, client):
        join(plant, "fd00:1::1/64", client, "fd00:1::2/64")
        with Asking(helper) as asking:
            _, opened = asking.ordered(listen(plant, "fd00:1::5"))
            assert opened is not None
            with opened:
                assert "fd00:1::5/128" in plant.addresses()
                assert reached_from(client, opened)


def test_an_address_is_taken_back_when_nobody_needs_it(
    helper: RunningHelper, pair: tuple[Namespace, Namespace]
) -> None:
    plant, _ = pair
    with Asking(helper) as one, Asking(helper) as other:
        one.order(listen(plant))
        other.order(Order(Task.HOLD, plant.name, ADDRESS))
        one.order(Order(Task.RELEASE, plant.name, ADDRESS))
        assert "10.1.0.5/32" in plant.addresses()
        other.order(Order(Task.RELEASE, plant.name, ADDRESS))
        assert plant.addresses() == {"10.1.0.1/24"}
        assert other.order(Order(Task.RELEASE, plant.name, ADDRESS)) == Answer()


def test_an_address_that_was_there_stays(helper: RunningHelper, pair: tuple[Namespace, Namespace]) -> None:
    plant, _ = pair
    with Asking(helper) as asking:
        assert asking.order(listen(plant, "10.1.0.1")).reason == ""
        asking.order(Order(Task.RELEASE, plant.name, "10.1.0.1"))
    assert plant.addresses() == {"10.1.0.1/24"}


def test_an_address_of_no_interfaces_network_is_on_lo(helper: RunningHelper, pair: tuple[Namespace, Namespace]) -> None:
    plant, client = pair
    plant.ip("link", "set", "lo", "down")
    client.ip("route", "add", "192.168.7.7/32", "via", "10.1.0.1")
    with Asking(helper) as asking:
        _, opened = asking.ordered(listen(plant, "192.168.7.7"))
        assert opened is not None
        with opened:
            assert "192.168.7.7/32" in plant.ip("-o", "addr", "show", "dev", "lo")
            assert reached_from(client, opened)


def test_a_removed_address_comes_back_when_it_is_held(helper: RunningHelper, pair: tuple[Namespace, Namespace]) -> None:
    plant, _ = pair
    with Asking(helper) as asking:
        asking.order(listen(plant))
        (device,) = {line.split()[1] for line in plant.ip("-o", "addr", "show", "to", ADDRESS).splitlines()}
        plant.ip("addr", "del", "10.1.0.5/32", "dev", device)
        asking.order(Order(Task.HOLD, plant.name, ADDRESS))
        assert "10.1.0.5/32" in plant.addresses()


def test_a_new_namespace_of_the_old_name_is_told_apart(helper: RunningHelper, own_folder: Path) -> None:
    with namespaces(1) as (plant,), Asking(helper) as asking:
        hold = Order(Task.HOLD, plant.name, ADDRESS)
        before, again = asking.order(hold).cookie, asking.order(hold).cookie
        assert before == again != 0
        plant.remove()
        assert asking.order(hold).reason == f"There is no network namespace {plant.name}: ip netns add {plant.name}."
        add_namespace(plant.name)
        assert asking.order(hold).cookie not in (0, before)


def test_what_is_not_to_be_had_is_said_in_a_sentence(helper: RunningHelper, pair: tuple[Namespace, Namespace]) -> None:
    plant, _ = pair
    with Asking(helper) as asking:
        _, opened = asking.ordered(listen(plant))
        assert opened is not None
        with opened:
            taken = asking.order(listen(plant)).reason
        assert taken == "Port 8883 at 10.1.0.5 is in use there: stop what listens, or choose another address."
        assert "--port 22" in asking.order(Order(Task.LISTEN, plant.name, ADDRESS, 22)).reason
        assert "--this-machine" in asking.order(Order(Task.HOLD, "", ADDRESS)).reason
        assert asking.order(Order(Task.HOLD, plant.name, ADDRESS)).reason == ""


@pytest.mark.parametrize("packet", [b"hello", b"{}", b"\xff" * ORDER_BYTES_MAX, b'{"task":"listen"}'])
def test_who_says_what_is_no_order_is_shown_out(helper: RunningHelper, packet: bytes) -> None:
    with Asking(helper) as asking:
        asking.socket.send(packet)
        assert asking.socket.recv(10) == b""
    helper.stop()


def test_a_stranger_is_shown_out_before_he_has_said_anything(own_folder: Path, nobody: None) -> None:
    helper = RunningHelper(own_folder, user=NOBODY + 1)
    helper.start()
    try:
        asked = subprocess.run(
            as_nobody(sys.executable, "-c", _ASK.format(path=helper.socket)), capture_output=True, timeout=WAIT_SECONDS
        )
        assert asked.stdout == b"shown out\n", asked.stderr
    finally:
        helper.kill()


def test_the_user_it_is_for_is_served(own_folder: Path, nobody: None) -> None:
    helper = RunningHelper(own_folder, user=NOBODY)
    helper.start()
    try:
        asked = subprocess.run(
            as_nobody(sys.executable, "-c", _ASK.format(path=helper.socket)), capture_output=True, timeout=WAIT_SECONDS
        )
        assert b"--this-machine" in asked.stdout, asked.stderr
    finally:
        helper.kill()


def test_the_next_helper_knows_what_a_killed_one_has_added(
    own_folder: Path, helper: RunningHelper, pair: tuple[Namespace, Namespace]
) -> None:
    plant, client = pair
    with Asking(helper) as asking:
        _, opened = asking.ordered(listen(plant))
    assert opened is not None
    helper.kill()
    with opened:
        assert reached_from(client, opened), "a passed socket lives on"

    helper.start()
    with Asking(helper) as asking:
        asking.order(Order(Task.RELEASE, plant.name, ADDRESS))
    assert plant.addresses() == {"10.1.0.1/24"}
    helper.stop()
    assert not helper.record.exists()


def test_a_stopped_helper_leaves_addresses_to_the_next(
    helper: RunningHelper, pair: tuple[Namespace, Namespace]
) -> None:
    plant, _ = pair
    with Asking(helper) as asking:
        asking.order(listen(plant))
        helper.stop()
    assert "10.1.0.5/32" in plant.addresses()
    assert helper.record.exists()


def test_a_second_helper_at_the_same_place_says_so(helper: RunningHelper) -> None:
    done = subprocess.run(
        [ISTHMUS, "namespace-helper", "--socket", helper.socket, "--allow-user", "0"],
        capture_output=True, text=True, timeout=WAIT_SECONDS,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"isthmus: {helper.record} cannot be the helper's record: another helper has it.\n"


def test_a_helper_without_rights_says_so(own_folder: Path, nobody: None) -> None:
    done = subprocess.run(
        as_nobody(ISTHMUS, "namespace-helper", "--socket", own_folder / "s", "--allow-user", "0"),
        capture_output=True, text=True, timeout=WAIT_SECONDS,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        "isthmus: The namespace helper needs CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_SYS_ADMIN: run it as root.\n",
    )


def test_what_runs_as_root_imports_nothing_of_the_hub() -> None:
    listing = "import isthmus.namespaces.serving, sys; print(*(n for n in sys.modules if n.startswith('isthmus.')))"
    done = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    rooms = {name.split(".")[1] for name in done.stdout.split()}
    assert rooms == {"namespaces", "base", "logs", "compiled"}


def test_many_orders_leave_no_descriptor_and_no_thread(
    helper: RunningHelper, pair: tuple[Namespace, Namespace]
) -> None:
    plant, _ = pair
    hold = Order(Task.HOLD, plant.name, ADDRESS)
    with Asking(helper) as asking:
        asking.order(listen(plant))
        # A passed socket is closed behind its answer, so another order has to be answered before counting.
        asking.order(hold)
        descriptors, _ = held_by(helper.pid)
        for _ in range(200):
            assert asking.order(listen(plant)).reason == ""
        asking.order(hold)
        assert until(lambda: held_by(helper.pid) == (descriptors, 1))


def test_an_address_whose_hub_does_not_come_back_is_taken_back(
    own_folder: Path, pair: tuple[Namespace, Namespace]
) -> None:
    """By a clock of the test's own; what an earlier helper has left goes the same way."""
    plant, _ = pair
    record = Record(own_folder / "added", wait=False)
    keeping = Keeping(Permissions(), record, now=0.0)
    keeping.carry_out(1, Order(Task.HOLD, plant.name, ADDRESS))
    keeping.leave(1, until=ORPHAN_SECONDS)
    assert keeping.tidy(ORPHAN_SECONDS - 0.1) == ORPHAN_SECONDS
    assert "10.1.0.5/32" in plant.addresses()
    record.close()

    later = Record(own_folder / "added", wait=False)
    adopting = Keeping(Permissions(), later, now=100.0)
    assert adopting.tidy(100.0) == 100.0 + ORPHAN_SECONDS
    assert adopting.tidy(100.0 + ORPHAN_SECONDS) is None
    later.close()
    assert plant.addresses() == {"10.1.0.1/24"}


def test_nobodys_address_in_a_namespace_made_anew_is_taken_back(own_folder: Path) -> None:
    """What was added went with the old one; the new one has the address by somebody else's hand."""
    record = Record(own_folder / "added", wait=False)
    keeping = Keeping(Permissions(), record, now=0.0)
    with namespaces(1) as (plant,):
        order = Order(Task.HOLD, plant.name, ADDRESS)
        for holds_again in (True, False):
            keeping.carry_out(1, order)
            assert record.spots == (order.spot,)
            plant.remove()
            add_namespace(plant.name)
            plant.ip("addr", "add", "10.1.0.5/32", "dev", "lo")
            if holds_again:
                keeping.carry_out(1, order)
                assert not set(record.spots)
            keeping.carry_out(1, Order(Task.RELEASE, plant.name, ADDRESS))
            assert (plant.addresses(), set(record.spots)) == ({"10.1.0.5/32"}, set())
            plant.ip("addr", "del", "10.1.0.5/32", "dev", "lo")
    record.close()


def test_what_is_left_in_a_namespace_that_is_gone_is_forgotten(own_folder: Path) -> None:
    record = Record(own_folder / "added", wait=False)
    keeping = Keeping(Permissions(), record, now=0.0)
    with namespaces(1) as (plant,):
        keeping.carry_out(1, Order(Task.HOLD, plant.name, ADDRESS))
    keeping.carry_out(1, Order(Task.RELEASE, plant.name, ADDRESS))
    assert record.spots == ()
    record.close()


def held_by(pid: int) -> tuple[int, int]:
    """Descriptors and threads of a process."""
    process = Path("/proc", str(pid))
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


def reached_from(client: Namespace, listening: socket.socket) -> bool:
    """True when a connection from there arrives here."""
    address = listening.getsockname()
    said = f"import socket; socket.create_connection({address[:2]!r}, {WAIT_SECONDS}).recv(1)"
    with subprocess.Popen(client.inside([sys.executable, "-c", said])) as calling:
        try:
            arrived = until(lambda: accepted(listening))
        finally:
            calling.kill()
    return arrived


def accepted(listening: socket.socket) -> bool:
    listening.setblocking(False)
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def until(condition: Callable[[], bool]) -> bool:
    """Waits for a condition; False when it did not come true in time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


_ASK = """
import socket
asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
asking.settimeout(10)
asking.connect("{path}")
try:
    asking.send(b'{{"task":"hold","namespace":"","address":"10.1.0.5"}}')
    print(asking.recv(4096).decode() or "shown out")
except (BrokenPipeError, ConnectionResetError):
    print("shown out")
"""
