"""The typed configuration tree, read once at start.

Every field carries its unit in its name or its paragraph, its bound, its default and the reason for it. Unknown keys
are refused with the path of the key; a value of the wrong type likewise. Flags of `isthmus up` win over the file.
"""

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from isthmus.base.errors import ConfigurationError
from isthmus.base.hosts import address_and_port
from isthmus.base.state import WhenFull
from isthmus.base.toml import parse_toml

DNS_PORT = 53
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The telemetry log.

    `retention_days` and `retention_gib`: records older, or beyond that much disk, are removed a segment at a time.
    `scrub_mib_per_second`: how fast the log is read in the background to find damage, 0 for not at all; one leaves
    99 parts of a core in a hundred to others, and reads 10 GiB in three hours.
    """

    retention_days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 7.0
    retention_gib: Annotated[float, msgspec.Meta(gt=0, le=65536)] = 10.0
    scrub_mib_per_second: Annotated[float, msgspec.Meta(ge=0, le=1024)] = 1.0


class SealingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key that seals secrets at rest.

    `key_file`: 32 bytes, or their base64; empty for a key from the environment, a systemd credential, or the data
    folder, where one is made at the first start. `previous_key_file`: what older secrets are sealed by, for the start
    that goes over to a new key.
    """

    key_file: str = ""
    previous_key_file: str = ""


class SocketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The socket budget.

    `sockets_max`: open sockets of all planes; when full, the oldest peer without handshake progress is evicted. None,
    the default, stands for what the process may open, less a reserve for files.
    """

    sockets_max: Annotated[int, msgspec.Meta(ge=16, le=1_000_000)] | None = None


class MetricsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Metrics and health over TCP.

    `address` and `port`: where they are served besides the local Unix socket, over TLS with the hub's certificate and
    without a question who asks; port 0 (the default) serves no TCP at all, because metrics tell a stranger more than a
    refusal does.
    """

    address: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0


class NetworkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the hub is present in networks.

    `helper`: the Unix socket of `isthmus namespace-helper`, for a hub that is not root; a hub that is needs none, and
    has it as a child. `add_addresses`: addresses of private endpoints that this machine does not have are added to it,
    and removed with the endpoint; off by default, because interfaces are usually somebody else's work.
    """

    helper: str = ""
    add_addresses: bool = False


class ManagementSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Management over TCP, for operators with a token.

    `port`: where it is served, over TLS with the hub's certificate; 0 (the default) serves no TCP at all, because the
    local Unix socket is enough for most. `address`: empty for those of `bind`. `allow`: ranges in CIDR notation that
    its callers may come from, besides having a token; empty for any.
    """

    address: str = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0
    allow: tuple[str, ...] = ()


class LinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The link door, where connectors dial in.

    `bind`: its addresses; none (the default) stands for those of the public door. `allow`: CIDR blocks that connectors
    may dial from; none stands for everywhere. `addresses`: what an enrolment token tells a connector to dial, each
    `host:port`, where it is not the host name and the addresses that are bound. `certificate_hours`: how long a
    connector's certificate is valid; it is renewed after two thirds of that. `spares`: connections that a connector
    keeps ready, so that a device does not wait for a handshake of two.
    """

    bind: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    certificate_hours: Annotated[float, msgspec.Meta(gt=0, le=8_760)] = 24.0
    spares: Annotated[int, msgspec.Meta(ge=0, le=128)] = 4


class AuditSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The journal of decisions, and its signed heads.

    `entries_max`: records kept, some 400 bytes each. `when_full`: `drop-oldest` removes those at the front and says so;
    `refuse-changes` removes nothing by itself and lets nobody change anything until somebody has made room.
    `heads_file`: signed heads are appended to it; it should lie where the hub's machine cannot write but append.
    `syslog`: they are sent to `udp://HOST:PORT`, `tcp://HOST:PORT` or `unix:///PATH`. A head goes out after
    `heads_records` records or `heads_interval_seconds`, whichever comes first: what an intruder can take back unseen.
    """

    entries_max: Annotated[int, msgspec.Meta(ge=1_000, le=100_000_000)] = 1_000_000
    when_full: WhenFull = WhenFull.DROP_OLDEST
    heads_file: str = ""
    syslog: str = ""
    heads_interval_seconds: Annotated[float, msgspec.Meta(ge=1, le=86_400)] = 60.0
    heads_records: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1_000


class TrustedIssuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An issuer elsewhere, such as Entra ID or Keycloak, whose tokens the service API takes.

    `issuer`: as its tokens say it. Its keys are in `keys`, a file with its JSON Web Key Set, read at start; or at
    `key_set`, the set's https address; or they are found by its OpenID document, at `document` or, by default, at the
    usual place below the issuer's name. `ca` is a file of certificates to trust for that besides the system's.
    `audiences`: taken of it besides `https://iothubs.azure.net` and the hub's own address.
    """

    issuer: str
    keys: str = ""
    key_set: str = ""
    document: str = ""
    ca: str = ""
    audiences: tuple[str, ...] = ()


class MetadataSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network namespace inside which tokens of one identity are given, as Azure's metadata service does.

    `namespace`: its name, as in `ip netns`. `identity`: a user-assigned identity by name or ARM id; whatever runs
    inside the namespace gets its tokens, and none of any other one.
    """

    namespace: Annotated[str, msgspec.Meta(min_length=1)]
    identity: Annotated[str, msgspec.Meta(min_length=1)]


class AuthoritySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token authority.

    `enabled`: it is served at the hubs' names, behind their network rules; off by default, because the hub's own sinks
    and its service API need no pages of it. `app_service`: so is `/msi/token`, where a workload with an identity's
    secret gets tokens. `metadata`: namespaces inside which there are tokens without a secret. `issuer`: what its tokens
    say; empty for the address below which it is served. `trusted`: issuers elsewhere whose tokens are taken.
    """

    enabled: bool = False
    app_service: bool = False
    metadata: Annotated[tuple[MetadataSettings, ...], msgspec.Meta(max_length=64)] = ()
    issuer: str = ""
    trusted: Annotated[tuple[TrustedIssuer, ...], msgspec.Meta(max_length=16)] = ()


class NamesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Private names.

    `port`: where DNS is served at private endpoints' addresses, 53 by default because clients ask nowhere else; 0
    serves none. `forward`: up to three servers, each an address or `address:port`, that are asked what nobody here
    knows; without any (the default) that is refused.
    """

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 53
    forward: Annotated[tuple[str, ...], msgspec.Meta(max_length=3)] = ()

    @property
    def servers(self) -> tuple[tuple[str, int], ...]:
        """The servers that are asked, each with its port."""
        found = (address_and_port(text, DNS_PORT) for text in self.forward)
        return tuple(each for each in found if each is not None)


class CheckSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Walks of the private paths by the clock.

    `interval_seconds`: time between two rounds over all approved private endpoints, whose results are metrics; 0 (the
    default) walks none, because each round is some entries of the journal for each endpoint.
    """

    interval_seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0


class EgressSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Deliveries to routing endpoints.

    `workers`: processes that deliver, among which endpoints are shared out; one does some thousand messages a second.
    `addresses`: `private` or `public` refuses a target whose name resolves to an address that is not; `any`, the
    default, takes what the name service says. `pinned_gib`: how much log is kept beyond its retention for an endpoint
    that is behind; what is further behind goes to the dead-letter log. `dead_after_seconds`: an endpoint that takes
    nothing for so long is dead, and with `when_dead` = `dead-letter` what waits for it goes there, too; by default it
    waits (`keep`). `dead_letter_days` and `dead_letter_gib`: dead letters older, or beyond that much disk, are removed.
    `credentials`: targets are shown the hubs' own identities, or with `azure` what azure-identity finds here.
    """

    workers: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1
    addresses: Literal["any", "private", "public"] = "any"
    pinned_gib: Annotated[float, msgspec.Meta(ge=0, le=65536)] = 20.0
    dead_after_seconds: Annotated[float, msgspec.Meta(ge=1, le=2_592_000)] = 3_600.0
    when_dead: Literal["keep", "dead-letter"] = "keep"
    dead_letter_days: Annotated[float, msgspec.Meta(gt=0, le=3650)] = 30.0
    dead_letter_gib: Annotated[float, msgspec.Meta(gt=0, le=65536)] = 10.0
    credentials: Literal["hub", "azure"] = "hub"


PerSecond = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class RateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Operations a second that a hub lets through, each instead of the profile's; 0 stands for any number.

    `connections` of devices; `telemetry` messages; `commands` that services send and `command_receives` that devices
    ask for over HTTPS; `methods` in bytes; `twin_reads` and `twin_updates` by devices and services; `identities` read
    or written; `queries`; `jobs` asked about or begun; `uploads` begun;
    `configurations` read or written.
    """

    connections: PerSecond | None = None
    telemetry: PerSecond | None = None
    commands: PerSecond | None = None
    command_receives: PerSecond | None = None
    methods: PerSecond | None = None
    twin_reads: PerSecond | None = None
    twin_updates: PerSecond | None = None
    identities: PerSecond | None = None
    queries: PerSecond | None = None
    jobs: PerSecond | None = None
    uploads: PerSecond | None = None
    configurations: PerSecond | None = None


class ThrottleSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much hubs and devices may send and ask.

    `profile`: `off`, the default, because users own the machine; `sku` for what each hub's size and units would have in
    Azure; or a size, of which every hub has `units`. `device_messages_per_second`: telemetry of one device, on by
    default so that a bad one does not hurt the rest; 0 for any. `daily_messages`: messages that a hub takes between two
    midnights UTC; 0, the default, for any number, `profile` for what the profile's size has.
    """

    profile: Literal["off", "sku", "F1", "B1", "B2", "B3", "S1", "S2", "S3"] = "off"
    units: Annotated[int, msgspec.Meta(ge=1, le=200)] = 1
    device_messages_per_second: PerSecond = 5_000.0
    daily_messages: Annotated[int, msgspec.Meta(ge=0, le=10**15)] | Literal["profile"] = 0
    rates: RateSettings = RateSettings()


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `isthmus up` needs to know.

    `data`: folder of everything durable, made with mode 0700 when missing. `hostname`: `{hub}.{domain}` of the first
    hub, a bare address, or `localhost`. `bind`: addresses of the public door. `link_port` is listened at from the first
    enrolment of a connector on; 0 switches it off. `partitions` counts at the first start only. `ready_file` is written
    once every listener accepts. `ephemeral` keeps all state in memory and the log in a temporary folder; `seed` names a
    file of devices, twins and rules to begin with.
    """

    data: str = "./isthmus-data"
    hostname: str = "localhost"
    bind: tuple[str, ...] = ("127.0.0.1",)
    https_port: Port | None = None
    mqtt_port: Port = 8883
    amqp_port: Port = 5671
    link_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 9443
    partitions: Annotated[int, msgspec.Meta(ge=1, le=32)] = 4
    ready_file: str = ""
    ephemeral: bool = False
    seed: str = ""
    log: LogSettings = LogSettings()
    sealing: SealingSettings = SealingSettings()
    sockets: SocketSettings = SocketSettings()
    metrics: MetricsSettings = MetricsSettings()
    network: NetworkSettings = NetworkSettings()
    management: ManagementSettings = ManagementSettings()
    link: LinkSettings = LinkSettings()
    audit: AuditSettings = AuditSettings()
    names: NamesSettings = NamesSettings()
    check: CheckSettings = CheckSettings()
    authority: AuthoritySettings = AuthoritySettings()
    egress: EgressSettings = EgressSettings()
    throttles: ThrottleSettings = ThrottleSettings()

    @property
    def data_folder(self) -> Path:
        return Path(self.data)

    @property
    def management_addresses(self) -> tuple[str, ...]:
        """Where management is served when it has a port."""
        return (self.management.address,) if self.management.address else self.bind


def load_config(path: str | None, flags: dict[str, object]) -> Config:
    """Reads the file, lays the flags over it, and checks the whole; raises `ConfigurationError` in one sentence."""
    values: dict[str, object] = {}
    if path:
        try:
            values = parse_toml(Path(path).read_text())
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ConfigurationError(f"The configuration file {path} cannot be read: {reason}.") from error
        except ValueError as error:
            raise ConfigurationError(f"The configuration file {path} is not valid TOML: {error}.") from error
    values |= {key: value for key, value in _in_tables(values, flags).items() if value is not None}
    try:
        config = msgspec.convert(values, Config)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"The configuration is not valid: {error}.") from error
    _check_addresses(config)
    _check_ports(config)
    _check_ranges(config)
    _check_servers(config)
    _check_issuers(config)
    _check_metadata(config)
    return config


def _in_tables(values: dict[str, object], flags: dict[str, object]) -> dict[str, object]:
    """The flags by the names they have in the file: those of a table lie over what the file says of it."""
    placed = dict(flags)
    for flag, (name, key) in _FLAGS_OF_TABLES.items():
        value, table = placed.pop(flag, None), placed.get(name, values.get(name, {}))
        if value is not None and isinstance(table, dict):
            placed[name] = {**table, key: value}
    return placed


_FLAGS_OF_TABLES = {
    "management_port": ("management", "port"),
    "sealing_key_file": ("sealing", "key_file"),
    "previous_sealing_key_file": ("sealing", "previous_key_file"),
}
"""Flags whose names are not the file's, and the table and key they have there."""


def _check_addresses(config: Config) -> None:
    if not config.bind:
        raise ConfigurationError("At least one address to bind is needed; use --bind ADDR.")
    for name, address in (
        *(("--bind", address) for address in config.bind),
        ("metrics.address", config.metrics.address),
        *(("management.address", address) for address in config.management_addresses),
        *(("[link] bind", address) for address in config.link.bind),
    ):
        try:
            ipaddress.ip_address(address)
        except ValueError as error:
            raise ConfigurationError(f"{name} takes IP addresses, and {address!r} is none.") from error
    for allowed in config.management.allow:
        try:
            ipaddress.ip_network(allowed)
        except ValueError as error:
            message = f"management.allow takes address ranges in CIDR notation, and {allowed!r} is none."
            raise ConfigurationError(message) from error


def _check_ranges(config: Config) -> None:
    for block in config.link.allow:
        try:
            ipaddress.ip_network(block)
        except ValueError as error:
            raise ConfigurationError(f"link.allow takes CIDR blocks, and {block!r} is none.") from error


def _check_servers(config: Config) -> None:
    for text in config.names.forward:
        if address_and_port(text, DNS_PORT) is None:
            raise ConfigurationError(f"names.forward takes IP addresses, with a port or without, and {text!r} is none.")


def _check_metadata(config: Config) -> None:
    names = [each.namespace for each in config.authority.metadata]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise ConfigurationError(f"authority.metadata names the namespace {double} twice; it has one identity.")


def _check_issuers(config: Config) -> None:
    for trusted in config.authority.trusted:
        said = [name for name in ("keys", "key_set", "document") if getattr(trusted, name)]
        if len(said) > 1:
            message = f"{' and '.join(said)} of {trusted.issuer} say where its keys are; one of them is enough."
            raise ConfigurationError(f"authority.trusted: {message}")
        address = trusted.key_set or trusted.document or trusted.issuer
        if not trusted.keys and not address.startswith("https://"):
            message = f"the keys of {trusted.issuer} are fetched over https, and {address!r} is no such address"
            raise ConfigurationError(f"authority.trusted: {message}; or give a file, keys.")


def _check_ports(config: Config) -> None:
    named = {
        "mqtt_port": config.mqtt_port,
        "amqp_port": config.amqp_port,
        "https_port": config.https_port,
        "metrics.port": config.metrics.port,
        "management.port": config.management.port,
        "link_port": config.link_port,
        "names.port": config.names.port,
    }
    takers: dict[int, str] = {}
    for name, port in named.items():
        if port and (other := takers.setdefault(port, name)) != name:
            raise ConfigurationError(f"{other} and {name} are both {port}; each needs a port of its own.")
