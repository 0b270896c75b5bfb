"""Who may import whom, what each floor must not touch, and the invariants that are absences (ARCHITECTURE.md)."""

import ast
from collections.abc import Iterable, Iterator

import pytest

from house.source import PACKAGE, Import, Module, calls, imports, modules

GROUND = frozenset({"base", "wire", "query"})
MIDDLE = frozenset(
    {
        "telemetry",
        "access",
        "names",
        "network",
        "resources",
        "neighbours",
        "devices",
        "queues",
        "routing",
        "commands",
        "jobs",
        "configurations",
    }
)
HANDS_AND_DOORS = frozenset(
    {
        "namespaces",
        "paths",
        "backends",
        "sinks",
        "servers",
        "config",
        "seed",
        "seeding",
        "logs",
        "ending",
        "completion",
        "demo",
        "egress",
        "cli",
    }
)
EVERYTHING = GROUND | MIDDLE | HANDS_AND_DOORS | {""}

# Room: (what it may import besides itself, why no more).
MAY_IMPORT: dict[str, tuple[frozenset[str], str]] = {
    "": (frozenset({"compiled"}), "the package itself only carries its version, and which build of the core runs"),
    "compiled": (frozenset(), "chooses before anything else is loaded"),
    "__main__": (frozenset({"cli"}), "`python -m isthmus` is the command line"),
    "base": (frozenset(), "everything stands on it"),
    "wire": (frozenset({"base"}), "codecs and state machines could be published alone"),
    "query": (frozenset({"base"}), "a language knows nothing of what it is asked about"),
    "telemetry": (frozenset({"base"}), "the log is below everybody who writes to it"),
    "access": (frozenset({"base"}), "who somebody is does not depend on what they want"),
    "queues": (frozenset({"base", "completion"}), "one lock-queue for commands and for neighbours alike"),
    "names": (frozenset({"base"}), "names are told by whoever is given the zones and the sockets"),
    "network": (frozenset({"base", "access"}), "admission judges addresses and principals, not devices"),
    "resources": (
        frozenset({"base", "query", "access", "network", "names", "completion"}),
        "a resource carries its three guards, networks their names; conditions compile before they are saved",
    ),
    "devices": (
        frozenset({"base", "query", "access", "telemetry", "completion"}),
        "devices do not know routing: it is their outlet",
    ),
    "routing": (frozenset({"base", "query", "telemetry", "devices", "resources"}), "routes judge messages and twins"),
    "commands": (
        frozenset({"base", "query", "telemetry", "devices", "queues", "resources"}),
        "routing and commands do not know each other",
    ),
    "jobs": (
        frozenset({"base", "query", "devices", "resources", "commands", "completion"}),
        "a job does what anybody could do, to many identities, by the rules of the registry and of twins",
    ),
    "configurations": (
        frozenset({"base", "query", "access", "devices", "resources", "completion"}),
        "configurations write twins by the rules of twins, and note in the journal which device does not take them",
    ),
    "neighbours": (
        frozenset({"base", "access", "network", "telemetry", "queues", "resources", "completion"}),
        "neighbours are resources without devices",
    ),
    "backends": (
        frozenset({"base", "telemetry", "devices", "queues", "routing", "access", "neighbours"}),
        "hands implement ports and return value types, and never call the use cases",
    ),
    "sinks": (
        frozenset({"base", "wire", "telemetry", "access", "resources", "routing", "commands", "jobs"}),
        "a sink only delivers, what an endpoint of a hub says and routing gives it; so does what files and jobs go by",
    ),
    "servers": (frozenset({*GROUND, *MIDDLE, "paths"}), "doors never meet the hands: app connects them"),
    "config": (frozenset({"base"}), "read once, before anything exists"),
    "seed": (frozenset({"base"}), "a file's content, checked; app applies it"),
    "seeding": (frozenset({"base", "seed", *MIDDLE}), "applies a seed by the use cases that anybody calls"),
    "logs": (frozenset({"base"}), "how lines look; whoever logs uses the library's own names"),
    "completion": (frozenset(), "operations run to their end in every room of the middle alike"),
    "ending": (frozenset(), "signals, and nothing of what they end"),
    "cli": (
        frozenset({"", "base", "config", "app", "checks", "demo", "egress", "lab", "connector", "namespaces"}),
        "talks to the server by its management API; the other rooms are commands' own processes",
    ),
    "egress": (
        frozenset({"base", "telemetry", "resources", "routing", "sinks", "logs"}),
        "worker processes read the log and deliver by the sinks; the hub's side keeps what they report",
    ),
    "demo": (frozenset({"base", "cli"}), "uses the hub as a stranger would: official SDKs and the command line"),
    "namespaces": (frozenset({"base", "logs"}), "what runs as root is small, and knows nothing of the hub"),
    "connector": (
        frozenset({"base", "wire", "names", "paths", "logs", "ending"}),
        "runs in the customer's network, without the hub",
    ),
    "paths": (frozenset({"base", "wire", "names"}), "walks as a client does, in the hub's process and in connectors"),
    "checks": (frozenset({"base", "wire", "namespaces"}), "asks as a stranger does, of the kernel and of the doors"),
    "lab": (frozenset({"base"}), "speaks to servers by the command line"),
    "app": (EVERYTHING, "builds everything; imported by the command line and by tests only"),
}

GROUND_FORBIDS = frozenset(
    {"asyncio", "socket", "ssl", "time", "random", "os", "logging", "secrets", "threading", "select",
     "selectors", "subprocess", "signal", "tempfile", "shutil", "pathlib"}
)  # fmt: skip
GROUND_EXCEPTIONS = {
    "isthmus.base.clock": ({"time"}, "the clock adapter"),
    "isthmus.base.ids": ({"secrets"}, "the adapter of the random source"),
    "isthmus.wire.tls": ({"ssl"}, "TLS is a layer of ours below the protocols"),
}

# A library lives in few rooms, so that replacing it is work in those rooms only; app knows everybody.
LIBRARY_ROOMS: dict[str, frozenset[str]] = {
    "sqlite3": frozenset({"backends"}),
    "asyncpg": frozenset({"backends"}),
    "nats": frozenset({"backends"}),
    "aiohttp": frozenset({"servers", "sinks"}),
    "dns": frozenset({"names"}),
    "joserfc": frozenset({"access"}),
    "pyroute2": frozenset({"namespaces", "lab"}),
    "click": frozenset({"cli"}),
    "jmespath": frozenset({"cli"}),
    "rich": frozenset({"cli", "demo"}),
    "azure": frozenset({"sinks", "demo"}),
    "uvloop": frozenset({"connector"}),
    "random": frozenset({"demo"}),
    "pytest": frozenset(),
    "hypothesis": frozenset(),
    "unittest": frozenset(),
}

LATE_IMPORTS = {
    "cli": frozenset(
        f"isthmus.{room}" for room in ("app", "checks", "connector", "demo", "egress", "lab", "namespaces")
    ),
    "app": frozenset({"isthmus.backends", "isthmus.sinks"}),
}
"""Own modules that may be imported inside a function: the server's weight for `up` only, and optional hands."""

SYSTEM_CLOCK = frozenset(
    f"{owner}{kind}.{call}"
    for owner in ("", "datetime.")
    for kind, call in (("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"))
)
RANDOM = {
    "isthmus.base.ids": "the adapter of the random source",
    "isthmus.access.certificates": "private keys and what goes with them are random through and through",
    "isthmus.access.files": "a draft of a file with a key has a name that nobody can guess",
}
STRANGERS = frozenset({"demo"})
"""Rooms whose programs stand for the user's own, outside the hub."""
OPENS_SERVER_SOCKET = frozenset(
    {"bind", "listen", "create_server", "create_unix_server", "start_server", "start_unix_server",
     "create_datagram_endpoint"}
)  # fmt: skip
LISTENER = "isthmus.servers.gateway.listener"
OTHER_PROCESSES = {
    "isthmus.connector.listening": "the connector's own door, in the customer's network",
    "isthmus.namespaces.sockets": "sockets in network namespaces, which the front door then serves",
    "isthmus.namespaces.serving": "the Unix socket at which the root helper is asked",
}
"""Files that open server sockets in a process that is not the hub."""
NEAR_ENDS = {"isthmus.paths.ground": "binds the near end of an outgoing connection, and listens at nothing"}


def each_module() -> list[object]:
    return [pytest.param(module, id=module.name) for module in modules()]


@pytest.mark.parametrize("module", each_module())
def test_imports_follow_the_table(module: Module) -> None:
    allowed, reason = MAY_IMPORT[module.room]
    wrong = [found for found in _own(module) if _room(found.target) not in {*allowed, module.room}]
    assert not wrong, _complaint(module, wrong, f"{module.room or 'the package'} may not: {reason}")


@pytest.mark.parametrize("module", [module for module in modules() if module.room in GROUND], ids=lambda it: it.name)
def test_the_ground_floor_touches_no_machine(module: Module) -> None:
    excepted: set[str] = GROUND_EXCEPTIONS.get(module.name, (set(), ""))[0]
    wrong = [found for found in imports(module) if _top(found.target) in GROUND_FORBIDS - excepted]
    assert not wrong, _complaint(module, wrong, "the ground floor is pure")


@pytest.mark.parametrize("module", each_module())
def test_a_library_stays_in_its_rooms(module: Module) -> None:
    wrong = [
        found
        for found in imports(module)
        if module.room not in {"app", *LIBRARY_ROOMS.get(_top(found.target), frozenset({module.room}))}
    ]
    assert not wrong, _complaint(module, wrong, "this library belongs to other rooms")


@pytest.mark.parametrize("module", each_module())
def test_our_own_modules_are_imported_at_the_top(module: Module) -> None:
    allowed = LATE_IMPORTS.get(module.room, frozenset())
    wrong = [
        found
        for found in _own(module)
        if found.inside and not any(found.target == name or found.target.startswith(f"{name}.") for name in allowed)
    ]
    assert not wrong, _complaint(module, wrong, "an import inside a function hides a dependency")


@pytest.mark.parametrize("module", each_module())
def test_only_the_clock_asks_the_machine_for_the_time(module: Module) -> None:
    if module.name == "isthmus.base.clock" or module.room in STRANGERS:
        return
    wrong = [call.lineno for name, call in calls(module.tree) if name in SYSTEM_CLOCK]
    wrong += [found.line for found in imports(module) if found.target == "time"]
    assert not wrong, f"{module.place}: lines {wrong} ask the system clock; take a Clock"


@pytest.mark.parametrize("module", each_module())
def test_only_the_identifiers_ask_for_randomness(module: Module) -> None:
    if module.name in RANDOM:
        return
    wrong = [found for found in imports(module) if found.target == "secrets"]
    assert not wrong, _complaint(module, wrong, "take Ids")
    made = [
        call.lineno for name, call in calls(module.tree) if name.rpartition(".")[2] in {"uuid1", "uuid4", "urandom"}
    ]
    assert not made, f"{module.place}: lines {made} make something random; take Ids"


@pytest.mark.parametrize("module", each_module())
def test_only_the_listener_opens_server_sockets(module: Module) -> None:
    if module.name == LISTENER or module.name in OTHER_PROCESSES or module.name in NEAR_ENDS:
        return
    wrong = [call.lineno for name, call in calls(module.tree) if name.rpartition(".")[2] in OPENS_SERVER_SOCKET]
    assert not wrong, f"{module.place}: lines {wrong} open a server socket; {LISTENER} is the only door"


def test_there_is_no_import_cycle() -> None:
    graph = {
        module.name: {found.target for found in _own(module) if not found.inside and found.target != module.name}
        for module in modules()
    }
    cycle = _cycle(graph)
    assert not cycle, " -> ".join(cycle)


def test_every_room_is_in_the_table() -> None:
    assert {module.room for module in modules()} <= set(MAY_IMPORT)


def test_the_checks_see_what_they_look_for() -> None:
    """A rule that finds nothing anywhere may be broken itself: these must be found."""
    now = ast.parse("datetime.now(UTC); server.listen(1)")
    assert {name for name, _ in calls(now)} == {"datetime.now", "server.listen"} <= SYSTEM_CLOCK | {"server.listen"}
    clock = next(module for module in modules() if module.name == "isthmus.base.clock")
    assert any(found.target == "time" for found in imports(clock))
    assert any(found.target == "isthmus.base.ids" for module in modules() for found in _own(module))
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]


def _own(module: Module) -> list[Import]:
    return [found for found in imports(module) if _top(found.target) == PACKAGE]


def _top(target: str) -> str:
    return target.partition(".")[0]


def _room(target: str) -> str:
    return target.split(".")[1] if "." in target else ""


def _complaint(module: Module, wrong: Iterable[Import], reason: str) -> str:
    lines = "; ".join(f"line {found.line} imports {found.target}" for found in wrong)
    return f"{module.place}: {lines} ({reason})"


def _cycle(graph: dict[str, set[str]]) -> list[str]:
    done: set[str] = set()
    for start in sorted(graph):
        found = _walk(start, graph, done, [])
        if found:
            return found
    return []


def _walk(node: str, graph: dict[str, set[str]], done: set[str], path: list[str]) -> list[str]:
    if node in path:
        return [*path[path.index(node) :], node]
    if node in done:
        return []
    for target in _targets(node, graph):
        found = _walk(target, graph, done, [*path, node])
        if found:
            return found
    done.add(node)
    return []


def _targets(node: str, graph: dict[str, set[str]]) -> Iterator[str]:
    return (target for target in sorted(graph[node]) if target in graph)
