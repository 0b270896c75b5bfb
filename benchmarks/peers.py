"""The servers of the comparison: how each is configured, started on a core of its own, and ended again.

All of them speak TLS 1.3 with a P-256 key, check a user name and a password, and listen on 127.0.0.1 only. What they
promise when they acknowledge differs, and `promise` says it: only figures of the same promise compare.
"""

import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from isthmus.base.ids import RandomIds
from isthmus.base.places import CA_CERTIFICATE
from isthmus.base.sas_token import sign
from isthmus.compiled import PURE_VARIABLE
from isthmus.wire.mqtt.client import ClientSession
from isthmus.wire.mqtt.packets import Connect, SubAck

USER, PASSWORD = "dev", "secret"
HOST_NAME = "hub.bench.test"
DEVICES = 2000
"""Devices registered with our own server: as many as the largest shape of `run.py` has connections."""
TOKEN_SECONDS = 3600
PACKAGED = Path(__file__).parents[1] / ".venv" / "peers" / "bin"
"""Where `bench.sh` puts the peers that come as Python packages."""

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 10.0
OPEN_FILES = 65_536


@dataclass
class Running:
    """A started server; `arguments` are what the load generator needs to reach it."""

    process: subprocess.Popen[bytes]
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)


class Peer(Protocol):
    """One server of the comparison."""

    name: str
    promise: str
    port: int

    def needs(self) -> list[str]:
        """Commands that must be there."""

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Writes the configuration and returns the command and its environment."""

    def arguments(self, folder: Path) -> list[str]:
        """What the load generator is told about it."""

    def prepared(self, folder: Path, environment: dict[str, str]) -> None:
        """Called once it listens."""

    def ended(self, environment: dict[str, str]) -> None:
        """Called once it has ended."""


class Mosquitto:
    """Eclipse Mosquitto, in memory: the bar for a server that stores nothing."""

    name = "mosquitto"
    promise = "in memory"
    port = 22883

    def needs(self) -> list[str]:
        return ["mosquitto", "mosquitto_passwd", "openssl"]

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        certificate, key = _certificate(folder)
        passwords = folder / "passwords"
        passwords.touch()
        subprocess.run(["mosquitto_passwd", "-b", passwords, USER, PASSWORD], check=True, capture_output=True)
        configuration = folder / "mosquitto.conf"
        configuration.write_text(
            f"{_as_root()}allow_anonymous false\npassword_file {passwords}\npersistence false\n"
            "max_queued_messages 0\nmax_inflight_messages 1000\nset_tcp_nodelay true\n"
            f"listener {self.port} 127.0.0.1\ncertfile {certificate}\nkeyfile {key}\n"
        )
        return ["mosquitto", "-c", str(configuration)], {}

    def arguments(self, folder: Path) -> list[str]:
        return _plain_arguments(folder)

    def prepared(self, folder: Path, environment: dict[str, str]) -> None:
        """Nothing is to be prepared."""

    def ended(self, environment: dict[str, str]) -> None:
        """Nothing stays behind."""


class RabbitQuorum:
    """RabbitMQ with a durable quorum queue bound to every topic: on disk before it acknowledges, as we are."""

    name = "rabbitmq-quorum"
    promise = "on disk"
    port = 22933
    _epmd_port = "24369"

    def needs(self) -> list[str]:
        return ["rabbitmq-server", "openssl"]

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        certificate, key = _certificate(folder)
        (folder / "enabled").write_text("[rabbitmq_mqtt].\n")
        (folder / "rabbit.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port + 2000}\nmqtt.listeners.tcp = none\n"
            f"mqtt.listeners.ssl.1 = 127.0.0.1:{self.port}\nssl_options.certfile = {certificate}\n"
            f"ssl_options.keyfile = {key}\nssl_options.cacertfile = {certificate}\nmqtt.allow_anonymous = false\n"
            "mqtt.prefetch = 1000\nmqtt.tcp_listen_options.nodelay = true\nmqtt.tcp_listen_options.backlog = 1024\n"
            f"default_user = {USER}\ndefault_pass = {PASSWORD}\nvm_memory_high_watermark.relative = 0.6\n"
            "log.file.level = error\n"
        )
        environment = {
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbit",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled",
            "HOME": str(folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": self._epmd_port,
            "RABBITMQ_DIST_PORT": str(self.port + 4000),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        return [str(_rabbit_scripts() / "rabbitmq-server")], environment

    def arguments(self, folder: Path) -> list[str]:
        return _plain_arguments(folder)

    def prepared(self, folder: Path, environment: dict[str, str]) -> None:
        """Binds the quorum queue to all topics, so that every message is kept."""
        expression = (
            'Q = {resource,<<"/">>,queue,<<"telemetry">>}, '
            "rabbit_amqqueue:declare(Q, true, false, "
            '[{<<"x-queue-type">>,longstr,<<"quorum">>}], none, <<"bench">>), '
            'rabbit_binding:add({binding, {resource,<<"/">>,exchange,<<"amq.topic">>}, <<"#">>, Q, []}, <<"bench">>).'
        )
        control = [str(_rabbit_scripts() / "rabbitmqctl"), "-n", "bench@localhost"]
        every = {**os.environ, **environment}
        subprocess.run([*control, "await_startup"], env=every, check=True, capture_output=True, timeout=60)
        subprocess.run([*control, "eval", expression], env=every, check=True, capture_output=True, timeout=60)

    def ended(self, environment: dict[str, str]) -> None:
        """The port mapper that came with the node goes with it."""
        subprocess.run(
            ["epmd", "-port", self._epmd_port, "-kill"],
            capture_output=True,
            check=False,
            env={**os.environ, **environment},
        )


class NatsSynced:
    """NATS with JetStream on disk and `sync_interval: always`: on disk before it acknowledges, as we are."""

    name = "nats-synced"
    promise = "on disk"
    port = 22953

    def needs(self) -> list[str]:
        return [str(PACKAGED / "nats-server"), "openssl"]

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        certificate, key = _certificate(folder)
        (folder / "nats.conf").write_text(
            f'listen: "127.0.0.1:{self.port + 2000}"\nserver_name: bench\nmax_connections: 30000\n'
            f'jetstream {{ store_dir: "{folder}/store", max_file_store: 20G, sync_interval: always }}\n'
            f'mqtt {{ listen: "127.0.0.1:{self.port}", max_ack_pending: 20000, '
            f'tls {{ cert_file: "{certificate}", key_file: "{key}" }} }}\n'
            f"authorization {{ user: {USER}, password: {PASSWORD} }}\n"
        )
        return [str(PACKAGED / "nats-server"), "-c", str(folder / "nats.conf")], {}

    def arguments(self, folder: Path) -> list[str]:
        return _plain_arguments(folder)

    def prepared(self, folder: Path, environment: dict[str, str]) -> None:
        """Leaves a session behind that messages are kept for; without one they are acknowledged and dropped."""
        session = ClientSession()
        trust = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
        with (
            socket.create_connection(("127.0.0.1", self.port)) as plain,
            trust.wrap_socket(plain, server_hostname=HOST_NAME) as secured,
        ):
            connect = Connect("keeper", clean_session=False, user_name=USER, password=PASSWORD.encode())
            secured.sendall(session.connect(connect))
            while not session.connected:
                session.receive(secured.recv(4096))
            secured.sendall(session.subscribe(("t/#", 1)))
            while not any(isinstance(event, SubAck) for event in session.receive(secured.recv(4096))):
                pass
            secured.sendall(session.disconnect())

    def ended(self, environment: dict[str, str]) -> None:
        """Nothing stays behind."""


class Rumqttd:
    """rumqttd, as the package iotcore has it: a commit log in memory."""

    name = "rumqttd"
    promise = "in memory"
    port = 22973

    def needs(self) -> list[str]:
        return [str(PACKAGED / "iotcore"), "openssl"]

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        certificate, key = _certificate(folder)
        (folder / "rumqttd.toml").write_text(
            "id = 0\n[router]\nid = 0\nmax_connections = 20010\nmax_outgoing_packet_count = 200\n"
            "max_segment_size = 104857600\nmax_segment_count = 10\n"
            f'[v4.1]\nname = "tls"\nlisten = "127.0.0.1:{self.port}"\nnext_connection_delay_ms = 0\n'
            f'[v4.1.tls]\ncertpath = "{certificate}"\nkeypath = "{key}"\n'
            "[v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 300000\n"
            f'max_inflight_count = 1000\ndynamic_filters = true\n[v4.1.connections.auth]\n{USER} = "{PASSWORD}"\n'
        )
        command = [PACKAGED / "python", "-m", "iotcore", "--config", folder / "rumqttd.toml", "--log-level", "CRITICAL"]
        return [str(part) for part in command], {}

    def arguments(self, folder: Path) -> list[str]:
        return _plain_arguments(folder)

    def prepared(self, folder: Path, environment: dict[str, str]) -> None:
        """Nothing is to be prepared."""

    def ended(self, environment: dict[str, str]) -> None:
        """Nothing stays behind."""


class Own:
    """`isthmus up`, as users run it: every device has an identity and a token of its own."""

    name = "isthmus"
    promise = "on disk"
    port = 22993

    def __init__(self, devices: int = DEVICES) -> None:
        self._keys = {f"dev{number}": RandomIds().key() for number in range(devices)}

    def needs(self) -> list[str]:
        return [str(_isthmus())]

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        devices = (f'[[devices]]\nid = "{name}"\nprimary_key = "{key}"\n' for name, key in self._keys.items())
        # The seed wants both keys or none.
        seed = "".join(f'{device}secondary_key = "{RandomIds().key()}"\n' for device in devices)
        (folder / "seed.toml").write_text(seed)
        self._write_credentials(folder)
        ports = ["--mqtt-port", self.port, "--amqp-port", self.port + 1000, "--https-port", self.port + 2000]
        fixed = ["up", "--data", folder / "data", "--hostname", HOST_NAME, "--seed", folder / "seed.toml"]
        command = [_isthmus(), *fixed, *ports, "--ready-file", folder / "ready.json"]
        return [str(part) for part in command], {}

    def arguments(self, folder: Path) -> list[str]:
        topic = "devices/%c/messages/events/"
        trust = ["--tls", "--cafile", str(folder / "data" / CA_CERTIFICATE), "--sni", HOST_NAME]
        return [*trust, "--creds", str(folder / "credentials"), "--topic", topic]

    def prepared(self, folder: Path, environment: dict[str, str]) -> None:
        """Waits until every listener accepts and the devices are there."""
        _wait(lambda: (folder / "ready.json").exists(), "isthmus is not ready")

    def ended(self, environment: dict[str, str]) -> None:
        """Nothing stays behind."""

    def _write_credentials(self, folder: Path) -> None:
        expires = int(time.time()) + TOKEN_SECONDS
        with (folder / "credentials").open("w") as file:
            for name, key in self._keys.items():
                user = f"{HOST_NAME}/{name}/?api-version=2021-04-12"
                file.write(f"{name}\t{user}\t{sign(f'{HOST_NAME}/devices/{name}', key, expires)}\n")


class OwnPure(Own):
    """Our own server in pure Python, where the core is compiled otherwise."""

    name = "isthmus-pure"

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        command, environment = super().command(folder)
        return command, {**environment, PURE_VARIABLE: "1"}


class OwnJson(Own):
    """Our own server with JSON messages that say what they are, so that routes could ask their bodies."""

    name = "isthmus-json"

    def arguments(self, folder: Path) -> list[str]:
        arguments = super().arguments(folder)
        arguments[arguments.index("--topic") + 1] += "%%24.ct=application%%2Fjson&%%24.ce=utf-8&level=3"
        return [*arguments, "--json"]


class OwnRouted(OwnJson):
    """The same with ten routes, half of them on the body; one of each half takes the message."""

    name = "isthmus-10-routes"
    conditions = (
        "level = '1'",
        "level = '2' AND as_number(level) > 5",
        "starts_with($connectionDeviceId, 'press')",
        "is_defined(site) OR level = '9'",
        "level = '3'",
        "$body.Weather.Temperature > 90",
        "$body.Weather.Temperature < 10 OR $body.Weather.IsEnabled = false",
        "is_defined($body.Alarm)",
        "length($body.pad) = 1",
        "$body.Weather.Temperature = 50 AND $body.Weather.IsEnabled",
    )

    def prepared(self, folder: Path, environment: dict[str, str]) -> None:
        super().prepared(folder, environment)
        for number, condition in enumerate(self.conditions):
            subprocess.run(
                [
                    *(_isthmus(), "iot", "hub", "message-route", "create", "--route-name", f"r{number}"),
                    *("--endpoint-name", "events", "--source-type", "DeviceMessages", "--condition", condition),
                    *("--data", folder / "data"),
                ],
                check=True,
                capture_output=True,
            )


def start(peer: Peer, folder: Path, cores: set[int]) -> Running:
    """Starts a server in a fresh folder and returns once it takes connections; raises RuntimeError with its words."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command, environment = peer.command(folder)

    def on_its_core() -> None:
        os.sched_setaffinity(0, cores)
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, OPEN_FILES), hard))

    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            start_new_session=True,
            preexec_fn=on_its_core,
        )
    try:
        _wait(lambda: _listens(peer.port) or process.poll() is not None, f"{peer.name} does not listen")
        if process.poll() is not None:
            raise RuntimeError(f"{peer.name} ended at once")
        peer.prepared(folder, environment)
    except (RuntimeError, subprocess.SubprocessError) as error:
        stop(peer, Running(process, [], environment))
        words = (folder / "output").read_text(errors="replace")[-800:]
        raise RuntimeError(f"{peer.name}: {error}\n{words}") from error
    return Running(process, ["--port", str(peer.port), *peer.arguments(folder)], environment)


def stop(peer: Peer, running: Running) -> None:
    """Ends a server with everything it started, and only that: the process group is its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(running.process.pid, number)
            running.process.wait(STOP_SECONDS_MAX)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    peer.ended(running.environment)


def missing(peer: Peer) -> list[str]:
    """Commands that a server needs and that are not there."""
    return [command for command in peer.needs() if shutil.which(command, path=_path()) is None]


def _path() -> str:
    """Debian keeps servers where an ordinary user's shell does not look."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def _plain_arguments(folder: Path) -> list[str]:
    trust = ["--tls", "--cafile", str(folder / "certificate.pem"), "--sni", HOST_NAME]
    return [*trust, "--user", USER, "--pass", PASSWORD]


def _certificate(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", key, "-out", certificate, "-days", "30", "-subj", f"/CN={HOST_NAME}"),
            *("-addext", f"subjectAltName=DNS:{HOST_NAME}"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key


def _as_root() -> str:
    """Mosquitto leaves root for a user who cannot read a private folder, unless it is told to stay."""
    return "user root\n" if os.geteuid() == 0 else ""


def _rabbit_scripts() -> Path:
    """Beside the wrapper in the path, which would change the user."""
    found = shutil.which("rabbitmq-server", path=_path())
    return Path(found).resolve().parent if found else Path()


def _isthmus() -> Path:
    return Path(sys.executable).with_name("isthmus")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.3)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _wait(condition: "Condition", otherwise: str) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{otherwise} after {START_SECONDS_MAX:.0f} s")
        time.sleep(0.05)


class Condition(Protocol):
    """Becomes true."""

    def __call__(self) -> bool: ...
