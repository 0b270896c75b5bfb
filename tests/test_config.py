"""The configuration: what is refused and how, and that each key is read, by what it does to a running server."""

import base64
import http.client
import json
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import msgspec
import pytest
from joserfc.jwk import RSAKey

from app.starting import KEY
from isthmus.access.sealed_folder import KeySources, new_key, open_sealed_folder, write_key
from isthmus.base.errors import ConfigurationError
from isthmus.base.sealing import SealingKey
from isthmus.config import Config, load_config
from isthmus.wire.link.token import parse_token
from support.connector import RunningConnector
from support.listening import listening
from support.loopback import Loopback
from support.server import ISTHMUS, RunningHub

TIMEOUT_SECONDS = 15.0
ELSEWHERE = "https://elsewhere.test"


class ConfiguredHub(RunningHub):
    """A hub that is told everything by its file."""

    def __init__(self, folder: Path, settings: Path) -> None:
        super().__init__(folder, "")
        self.data = folder / "elsewhere"
        self.ready_file = folder / "here.json"
        self._settings = settings

    def command(self) -> list[str]:
        return [str(ISTHMUS), "up", "--config", str(self._settings)]


class Configured:
    """A server started with a file that gives each key a value that is not its default."""

    def __init__(self, folder: Path, addresses: Callable[[], str]) -> None:
        self.folder = folder
        self.address, self.metrics_address = addresses(), addresses()
        self.log_server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.log_server.bind((self.address, 0))
        self.log_server.settimeout(TIMEOUT_SECONDS)
        (folder / "seed.toml").write_text(f'[[devices]]\nid = "seeded"\nprimary_key = "{KEY}"\n')
        key = RSAKey.generate_key(2048).as_dict(private=False)
        (folder / "keys.json").write_text(json.dumps({"keys": [{**key, "kid": "k", "use": "sig"}]}))
        self.sealing_key = self._sealed_by_another_key(folder / "elsewhere")
        settings = folder / "isthmus.toml"
        settings.write_text(self._settings() + self._further_settings())
        self.hub = ConfiguredHub(folder, settings)
        self._token = ""
        self._connector = RunningConnector(folder / "connector")
        self._endpoint = addresses()
        self._made = False

    def _sealed_by_another_key(self, data: Path) -> SealingKey:
        """A data folder whose key is not where it was; returns the next one."""
        before, key = new_key(), new_key()
        write_key(self.folder / "before.key", before)
        write_key(self.folder / "sealing.key", key)
        data.mkdir(0o700)
        open_sealed_folder(data, KeySources(str(self.folder / "before.key")))
        (self.folder / "before.key").rename(self.folder / "moved.key")
        return key

    def _settings(self) -> str:
        """The file."""
        folder = self.folder
        return f"""
            data = "{folder / "elsewhere"}"
            hostname = "plant.isthmus.test"
            bind = ["{self.address}"]
            https_port = 10443
            mqtt_port = 18883
            amqp_port = 15671
            link_port = 19445
            partitions = 3
            ready_file = "{folder / "here.json"}"
            ephemeral = true
            seed = "{folder / "seed.toml"}"

            [log]
            retention_days = 2.5
            retention_gib = 0.25
            scrub_mib_per_second = 0.5

            [sealing]
            key_file = "{folder / "sealing.key"}"
            previous_key_file = "{folder / "moved.key"}"

            [sockets]
            sockets_max = 77

            [metrics]
            address = "{self.metrics_address}"
            port = 19443

            [egress]
            workers = 3
            addresses = "private"
            pinned_gib = 2
            dead_after_seconds = 90
            when_dead = "dead-letter"
            dead_letter_days = 2
            dead_letter_gib = 0.5
            credentials = "azure"

            [network]
            helper = "{folder / "nobody.sock"}"
            add_addresses = true

            [management]
            address = "{self.metrics_address}"
            port = 19444
            allow = ["127.0.0.0/9"]

            [link]
            bind = ["{self.metrics_address}"]
            allow = ["127.0.0.0/9"]
            addresses = ["{self.metrics_address}:19445"]
            certificate_hours = 0.5
            spares = 2
            """

    def _further_settings(self) -> str:
        """Of the file, what is not about listening."""
        folder = self.folder
        return f"""
            [audit]
            entries_max = 1234
            when_full = "refuse-changes"
            heads_file = "{folder / "heads"}"
            syslog = "udp://{self.address}:{self.log_server.getsockname()[1]}"
            heads_interval_seconds = 7.5
            heads_records = 99
            [throttles]
            profile = "S3"
            units = 3
            device_messages_per_second = 4321
            daily_messages = 123456
            [throttles.rates]
            connections = 7001
            telemetry = 7002
            commands = 7003
            command_receives = 7004
            methods = 7005
            twin_reads = 7006
            twin_updates = 7007
            identities = 7008
            queries = 7009
            jobs = 7010
            uploads = 7011
            configurations = 7012
            [names]
            port = 15353
            forward = ["{self.metrics_address}:15354"]

            [check]
            interval_seconds = 0.5

            [authority]
            enabled = true
            app_service = true
            issuer = "https://tokens.plant.test"
            metadata = [{{namespace = "nowhere-at-all", identity = "workload"}}]
            trusted = [{{issuer = "{ELSEWHERE}", keys = "{folder / "keys.json"}", audiences = ["plant-api"]}}]
            """

    @property
    def places(self) -> set[tuple[str, int]]:
        return {(address, port) for kind, address, port in listening(self.hub.pid) if kind == "tcp"}

    def shown(self) -> Any:
        return self.hub.json("iot", "hub", "show")

    @property
    def private_address(self) -> str:
        """The address of a private endpoint, where names are served."""
        if not self._made:
            target, ip = self.shown()["id"], f"private-ip-address={self._endpoint}"
            self.hub.isthmus(
                *("network", "private-endpoint", "create", "-n", "here", "--connection-name", "here"),
                *("--private-connection-resource-id", target, "--group-id", "iotHub", "--ip-config", ip),
            )
            self._made = True
        return self._endpoint

    def asks_others(self) -> bool:
        """True when a name that nobody knows here is asked of the configured server."""
        with socket.socket(type=socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
            server.bind((self.metrics_address, 15_354))
            server.settimeout(TIMEOUT_SECONDS)
            client.sendto(dns.message.make_query("elsewhere.test", "A").to_wire(), (self.private_address, 15_353))
            return dns.message.from_wire(server.recv(512)).question[0].name.to_text() == "elsewhere.test."

    def private_name(self) -> dns.message.Message:
        """What the hub's name is at the private endpoint's address."""
        query = dns.message.make_query("plant.isthmus.test", "A")
        return dns.query.udp(query, self.private_address, port=15_353, timeout=TIMEOUT_SECONDS)

    def refused_endpoint(self, address: str, *network: str) -> str:
        """Why an address that is not on this machine cannot be an endpoint's."""
        target = self.shown()["id"]
        configuration = ("name=ip", "group-id=iotHub", "member-name=iotHub", f"private-ip-address={address}")
        return self.hub.isthmus(
            *("network", "private-endpoint", "create", "-n", "none", "--connection-name", "none"),
            *("--private-connection-resource-id", target, "--group-id", "iotHub", "--ip-config", *configuration),
            *network,
            code=1,
        )

    def refused_in_namespace(self) -> str:
        """The same in a network namespace, whose name nobody asks about here."""
        self.hub.isthmus(
            *("network", "vnet", "create", "-n", "away", "--presence", "netns:away"),
            *("--address-prefixes", "10.1.0.0/24", "--subnet-name", "line", "--subnet-prefixes", "10.1.0.0/24"),
        )
        return self.refused_endpoint("10.1.0.7", "--vnet-name", "away", "--subnet", "line")

    def metric(self, name: str) -> float:
        found = re.search(rf"^isthmus_{re.escape(name)} (\S+)$", self.hub.isthmus("metrics"), re.MULTILINE)
        assert found is not None
        return float(found[1])

    def rate(self, operation: str) -> float:
        """The rate of an operation that the only hub has."""
        return self.metric(f'throttle_rate{{hub="plant",operation="{operation}"}}')

    def scraped(self, path: str) -> bytes:
        context = ssl.create_default_context(cafile=str(self.hub.ca))
        connection = _Elsewhere(self.metrics_address, 19_443, context)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            assert answer.status == 200
            return answer.read()
        finally:
            connection.close()

    def asked(self, path: str, **headers: str) -> int:
        """The status of a request at the front door."""
        context = ssl.create_default_context(cafile=str(self.hub.ca))
        connection = _Elsewhere(self.address, 10_443, context)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def refused_bearer(self) -> str:
        """Why a token with a key that its trusted issuer does not have is refused."""
        head, body = (
            {"alg": "RS256", "kid": "x"},
            {"iss": ELSEWHERE, "aud": "plant-api", "exp": int(time.time()) + 60},
        )
        parts = (base64.urlsafe_b64encode(json.dumps(each).encode()).decode().rstrip("=") for each in (head, body))
        bearer = f"Bearer {'.'.join(parts)}.c2ln"
        assert self.asked("/statistics/service?api-version=2021-04-12", Authorization=bearer) == 401
        return str(self.hub.json("explain", "--top", "1")[0]["rule"])

    def gives_tokens(self) -> bool:
        """True when a workload with an identity's secret gets a token."""
        self.hub.isthmus("identity", "create", "-n", "workload")
        secret = self.hub.json("identity", "secret", "create", "-n", "workload")["secretText"]
        path = "/msi/token?api-version=2019-08-01&resource=https://storage.azure.com"
        return self.asked(path, **{"X-IDENTITY-HEADER": secret}) == 200

    def walks_by_itself(self) -> bool:
        """True once a private path was proved by the clock."""
        assert self.private_address
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while "isthmus_path_ok{" not in self.hub.isthmus("metrics"):
            if time.monotonic() > deadline:
                return False
        return True

    @property
    def connector(self) -> dict[str, Any]:
        """A connector that is connected, as it is shown."""
        if not self._connector.running:
            self._connector.start(self.enrolment)
        return dict(self.hub.json("connector", "show", "-n", "plant-a"))

    @cached_property
    def enrolment(self) -> str:
        """The token that the connector is enrolled with."""
        self.hub.isthmus(
            *("network", "vnet", "create", "-n", "plant", "--presence", "connector:plant-a"),
            *("--address-prefixes", "10.2.0.0/24"),
        )
        return str(self.hub.json("connector", "enrol", "-n", "plant-a")["token"])

    def lifetime_hours(self) -> float:
        """Of the connector's certificate, from when it was enrolled."""
        shown = self.connector
        expires, enrolled = (datetime.fromisoformat(shown[name]) for name in ("certificateExpiryTime", "enrolledTime"))
        return (expires - enrolled).total_seconds() / 3_600

    def dials(self, source: str) -> bool:
        """True when the link door goes on with a connection from an address that says it is TLS."""
        assert self.enrolment
        with _connect(self.metrics_address, 19_445, source) as dialled:
            context = ssl.create_default_context(cafile=str(self.hub.ca))
            try:
                with context.wrap_socket(dialled, server_hostname="plant.isthmus.test"):
                    return True
            except OSError:
                return False

    def has_spares(self, count: int) -> bool:
        """True once the connector keeps so many connections ready."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while self.connector["spareConnections"] != count:
            if time.monotonic() > deadline:
                return False
        return True

    def end(self) -> None:
        """Ends what was started."""
        self._connector.kill()
        self.hub.kill()
        self.log_server.close()

    def managed(self, source: str) -> int:
        """The status of a management call from an address."""
        if not self._token:
            self._token = self.hub.json("token", "create", "-n", "config")["token"]
        context = ssl.create_default_context(cafile=str(self.hub.ca))
        connection = _Elsewhere(self.metrics_address, 19_444, context, source)
        try:
            connection.request("GET", "/hubs", headers={"Authorization": f"Bearer {self._token}"})
            return connection.getresponse().status
        finally:
            connection.close()


class _Elsewhere(http.client.HTTPSConnection):
    """Asks an address for the hub by its name, as a scraper with `server_name` does."""

    def __init__(self, address: str, port: int, context: ssl.SSLContext, source: str = "") -> None:
        super().__init__("plant.isthmus.test", port, timeout=TIMEOUT_SECONDS, context=context)
        self._create_connection = lambda _, *rest: _connect(address, port, source)


def _connect(address: str, port: int, source: str) -> socket.socket:
    return socket.create_connection((address, port), TIMEOUT_SECONDS, (source, 0) if source else None)


EFFECTS: dict[str, Callable[[Configured], bool]] = {
    "data": lambda it: (it.folder / "elsewhere" / "tls" / "ca.pem").is_file(),
    "hostname": lambda it: it.shown()["properties"]["hostName"] == "plant.isthmus.test",
    "bind": lambda it: it.hub.ready["bind"] == [it.address] and (it.address, 18_883) in it.places,
    "https_port": lambda it: (it.address, 10_443) in it.places,
    "mqtt_port": lambda it: (it.address, 18_883) in it.places,
    "amqp_port": lambda it: (it.address, 15_671) in it.places,
    "partitions": lambda it: it.shown()["properties"]["eventHubEndpoints"]["events"]["partitionCount"] == 3,
    "ready_file": lambda it: json.loads((it.folder / "here.json").read_text())["pid"] == it.hub.pid,
    "ephemeral": lambda it: not list((it.folder / "elsewhere").glob("state*")),
    "seed": lambda it: KEY in it.hub.device_connection_string("seeded"),
    "log.retention_days": lambda it: it.metric("log_retention_seconds") == 2.5 * 86_400,
    "log.retention_gib": lambda it: it.metric("log_retention_bytes") == 2**28,
    "log.scrub_mib_per_second": lambda it: it.metric("log_scrub_bytes_per_second_max") == 2**19,
    "sockets.sockets_max": lambda it: it.metric("sockets_max") == 77,
    "metrics.address": lambda it: b"isthmus_sockets_max 77.0" in it.scraped("/metrics"),
    "names.port": lambda it: it.private_address in it.private_name().to_text(),
    "names.forward": lambda it: it.asks_others(),
    "metrics.port": lambda it: b"isthmus_sockets_max" in it.scraped("/metrics"),
    "network.helper": lambda it: f"helper is not at {it.folder / 'nobody.sock'}" in it.refused_in_namespace(),
    "network.add_addresses": lambda it: "helper is not at" in it.refused_endpoint("192.0.2.1"),
    "management.address": lambda it: (it.metrics_address, 19_444) in it.places,
    "management.port": lambda it: it.hub.ready["ports"]["management"] == 19_444,
    "audit.entries_max": lambda it: it.metric("journal_entries_max") == 1_234,
    "audit.when_full": lambda it: it.metric("journal_refuses") == 1,
    "audit.heads_file": lambda it: "isthmusJournalHead" in (it.folder / "heads").read_text(),
    "audit.syslog": lambda it: b"isthmusJournalHead" in it.log_server.recv(4_096),
    "audit.heads_interval_seconds": lambda it: it.metric("audit_heads_interval_seconds") == 7.5,
    "audit.heads_records": lambda it: it.metric("audit_heads_records_max") == 99,
    "link_port": lambda it: bool(it.enrolment) and 19_445 in {port for _, port in it.places},
    "link.bind": lambda it: bool(it.enrolment) and (it.metrics_address, 19_445) in it.places,
    "link.addresses": lambda it: parse_token(it.enrolment).hubs == (f"{it.metrics_address}:19445",),
    "link.allow": lambda it: it.dials("127.0.0.1") and not it.dials("127.200.0.1"),
    "link.certificate_hours": lambda it: abs(it.lifetime_hours() - 0.5) < 0.01,
    "link.spares": lambda it: it.has_spares(2),
    "check.interval_seconds": lambda it: it.walks_by_itself(),
    "egress.workers": lambda it: it.metric("egress_workers_max") == 3,
    "egress.addresses": lambda it: b'addresses="private"' in it.scraped("/metrics"),
    "egress.pinned_gib": lambda it: it.metric("egress_pinned_bytes_max") == 2 * 2**30,
    "egress.dead_after_seconds": lambda it: it.metric("egress_dead_after_seconds") == 90,
    "egress.when_dead": lambda it: b'when_dead="dead-letter"' in it.scraped("/metrics"),
    "egress.dead_letter_days": lambda it: it.metric("dead_letters_retention_seconds") == 2 * 86_400,
    "egress.dead_letter_gib": lambda it: it.metric("dead_letters_retention_bytes") == 2**29,
    "egress.credentials": lambda it: b'credentials="azure"' in it.scraped("/metrics"),
    "authority.enabled": lambda it: it.asked("/adfs/.well-known/openid-configuration") == 200,
    "authority.app_service": lambda it: it.gives_tokens(),
    "authority.issuer": lambda it: it.hub.json("authority", "show")["issuer"] == "https://tokens.plant.test",
    "authority.metadata": lambda it: "nowhere-at-all" in it.hub.isthmus("health", code=1),
    "authority.trusted": lambda it: it.refused_bearer() == "auth.bearer-key",
    "throttles.profile": lambda it: it.metric('throttle_profile{profile="S3",units="3"}') == 1,
    "throttles.units": lambda it: it.metric('throttle_profile{profile="S3",units="3"}') == 1,
    "throttles.device_messages_per_second": lambda it: it.metric("throttle_device_rate") == 4_321,
    "throttles.daily_messages": lambda it: it.metric('daily_messages_max{hub="plant"}') == 123_456,
    "throttles.rates.connections": lambda it: it.rate("connections") == 7_001,
    "throttles.rates.telemetry": lambda it: it.rate("telemetry") == 7_002,
    "throttles.rates.commands": lambda it: it.rate("commands") == 7_003,
    "throttles.rates.command_receives": lambda it: it.rate("command_receives") == 7_004,
    "throttles.rates.methods": lambda it: it.rate("methods") == 7_005,
    "throttles.rates.twin_reads": lambda it: it.rate("twin_reads") == 7_006,
    "throttles.rates.twin_updates": lambda it: it.rate("twin_updates") == 7_007,
    "throttles.rates.identities": lambda it: it.rate("identities") == 7_008,
    "throttles.rates.queries": lambda it: it.rate("queries") == 7_009,
    "throttles.rates.jobs": lambda it: it.rate("jobs") == 7_010,
    "throttles.rates.uploads": lambda it: it.rate("uploads") == 7_011,
    "throttles.rates.configurations": lambda it: it.rate("configurations") == 7_012,
    "sealing.key_file": lambda it: it.hub.json("sealing-key", "show")["keyId"] == it.sealing_key.key_id,
    "sealing.previous_key_file": lambda it: it.hub.json("sealing-key", "show")["stillSealedBy"] == [],
    "management.allow": lambda it: it.managed("127.0.0.1") == 200 and it.managed("127.200.0.1") == 401,
}
"""What is different because of a key."""


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Configured]:
    with Loopback() as loopback:
        made = Configured(tmp_path_factory.mktemp("configured"), loopback.take)
        try:
            made.hub.start()
            yield made
            made.hub.stop()
        finally:
            made.end()


@pytest.mark.parametrize("key", EFFECTS)
def test_each_key_is_read(configured: Configured, key: str) -> None:
    assert EFFECTS[key](configured)


def test_no_key_is_without_an_effect() -> None:
    assert set(EFFECTS) == set(keys(Config))


def keys(kind: type[msgspec.Struct], prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from keys(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def test_without_a_file_everything_has_its_default() -> None:
    assert load_config(None, {}) == Config()


def test_flags_win_over_the_file_and_absent_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "isthmus.toml"
    path.write_text('hostname = "file.test"\nmqtt_port = 1883\n')

    config = load_config(str(path), {"hostname": "flag.test", "mqtt_port": None, "bind": ("127.0.0.1", "::1")})

    assert (config.hostname, config.mqtt_port, config.bind) == ("flag.test", 1883, ("127.0.0.1", "::1"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hatch = 1", "hatch"),
        ("[log]\nhatch = 1", "$.log"),
        ("mqtt_port = 0", "$.mqtt_port"),
        ("mqtt_port = '8883'", "$.mqtt_port"),
        ("partitions = 33", "$.partitions"),
        ("bind = []", "At least one address"),
        ("bind = ['hub.test']", "--bind takes IP addresses, and 'hub.test' is none"),
        ("[metrics]\naddress = 'hub.test'", "metrics.address takes IP addresses"),
        ("[log]\nretention_days = 0", "$.log.retention_days"),
        ("[sockets]\nsockets_max = 3", "$.sockets.sockets_max"),
        ("amqp_port = 8883", "mqtt_port and amqp_port are both 8883"),
        ("https_port = 5671", "amqp_port and https_port are both 5671"),
        ("[names]\nforward = ['ns.test']", "names.forward takes IP addresses"),
        ("[names]\nforward = ['1.1.1.1:0']", "names.forward takes IP addresses"),
        ("[link]\nallow = ['plant']", "link.allow takes CIDR blocks"),
        ("[link]\nbind = ['hub.test']", "[link] bind takes IP addresses"),
        ("[link]\ncertificate_hours = 0", "$.link.certificate_hours"),
        ("link_port = 8883", "mqtt_port and link_port are both 8883"),
        ("[metrics]\nport = 8883", "mqtt_port and metrics.port are both 8883"),
        ("= 1", "not valid TOML"),
        ("a." * 65 + "a = 1", "line 1 has a key of more than 64 parts"),
        ("a = " + "[" * 3_000, "nested too deep"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "isthmus.toml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as raised:
        load_config(str(path), {})

    assert words in str(raised.value)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "isthmus.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=rf"^The configuration file {path} cannot be read: .*\.$"):
        load_config(str(path), {})


@pytest.mark.parametrize(
    ("trusted", "said"),
    [
        ('issuer = "realms/plant"', "fetched over https"),
        ('issuer = "https://a.example"\ndocument = "http://a.example/doc"', "fetched over https"),
        ('issuer = "https://a.example"\nkey_set = "file:///keys"', "fetched over https"),
        ('issuer = "https://a.example"\nkeys = "k.json"\nkey_set = "https://a.example/k"', "one of them is enough"),
        ('issuer = "https://a.example"\nsurprise = 1', "surprise"),
    ],
)
def test_an_issuer_says_once_and_over_https_where_its_keys_are(tmp_path: Path, trusted: str, said: str) -> None:
    file = tmp_path / "isthmus.toml"
    file.write_text(f"[[authority.trusted]]\n{trusted}\n")
    with pytest.raises(ConfigurationError, match=said):
        load_config(str(file), {})


def test_an_issuer_is_found_by_its_name_or_where_its_pages_are_said_to_be(tmp_path: Path) -> None:
    file = tmp_path / "isthmus.toml"
    file.write_text(
        '[[authority.trusted]]\nissuer = "https://a.example"\n'
        '[[authority.trusted]]\nissuer = "urn:plant"\ndocument = "https://a.example/doc"\n'
        '[[authority.trusted]]\nissuer = "plant"\nkeys = "keys.json"\n'
    )
    assert [each.issuer for each in load_config(str(file), {}).authority.trusted] == [
        "https://a.example",
        "urn:plant",
        "plant",
    ]
