"""The scenes of the demo, in order, and the processes that play them.

Each actor is a process of its own that prints one JSON line a happening; a thread per actor reads those lines into the
view and into a set of conditions the scenes wait for. The demo ends its own processes by their handles, the hub last.
"""

import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from isthmus.demo.parts import CONNECTION_STRING
from isthmus.demo.view import View

SCENE_SECONDS_MAX = 60.0
MESSAGES_BEFORE_THE_SCENE = 3
ADDRESSES_TRIED_MAX = 50
PORTS = (8883, 5671)
END_SECONDS_MAX = 12.0
PROBE_SECONDS = 0.2


Told = Callable[[str, dict[str, Any]], None]
"""Takes an actor's name and what it told."""


class SceneError(Exception):
    """A scene did not come to pass within its time."""


class Stage:
    """The hub, the actors, and what has happened so far."""

    def __init__(self, folder: Path, view: View) -> None:
        self.folder = folder
        self.view = view
        self.host_name, self.public, self.private = _free_addresses()
        self.happened: Counter[tuple[str, str]] = Counter()
        self._changed = threading.Condition()
        self._processes: list[subprocess.Popen[str]] = []
        self.ready: dict[str, Any] = {}

    def start_hub(self) -> None:
        """Starts `isthmus up` in a folder of the demo's own and waits for its ready file."""
        ready = self.folder / "ready.json"
        command = ["up", "--data", self.data, "--hostname", self.host_name, "--bind", self.public]
        with (self.folder / "server.log").open("w") as log:
            server = subprocess.Popen(
                [*_isthmus(), *command, "--ready-file", str(ready)], stdout=log, stderr=log, text=True
            )
        self._processes.append(server)
        self.wait(lambda: ready.exists() or server.poll() is not None, "the hub is ready")
        if server.poll() is not None:
            raise SceneError((self.folder / "server.log").read_text().strip())
        self.ready = json.loads(ready.read_text())

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def isthmus(self, *arguments: str) -> str:
        """Runs a command of ours against the demo's hub, as anybody could beside it."""
        done = subprocess.run(
            [*_isthmus(), *arguments, "--data", self.data], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SceneError(f"isthmus {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def play(
        self,
        name: str,
        module: str,
        connection_string: str,
        *arguments: str,
        took: Told,
    ) -> None:
        """Starts an actor and reads its happenings in a thread."""
        actor = subprocess.Popen(
            [sys.executable, "-m", f"isthmus.demo.{module}", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {CONNECTION_STRING: connection_string},
            text=True,
        )
        self._processes.append(actor)
        threading.Thread(target=self._read, args=(name, actor, took), daemon=True).start()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Returns when the condition holds; raises `SceneError` after the scene's time."""
        with self._changed:
            for _ in range(int(SCENE_SECONDS_MAX * 10)):
                if condition():
                    return
                self._changed.wait(0.1)
        raise SceneError(f"It did not come to pass within {SCENE_SECONDS_MAX:.0f} s that {what}.")

    def wait_for(self, actor: str, what: str, times: int = 1) -> None:
        """Returns when an actor has told this so many times."""
        self.wait(lambda: self.seen(actor, what) >= times, f"{actor} told {what!r} {times} times")

    def seen(self, actor: str, what: str) -> int:
        """How often an actor has told this."""
        return self.happened[actor, what]

    def end(self) -> None:
        """Ends every process of the demo, the hub last."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(END_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _read(self, name: str, actor: subprocess.Popen[str], took: Told) -> None:
        for line in actor.stdout or ():
            if not line.startswith("{"):
                continue
            happening = json.loads(line)
            took(name, happening)
            with self._changed:
                self.happened[name, happening["what"]] += 1
                self._changed.notify_all()


def run() -> int:
    """Plays all scenes, then runs on until Ctrl-C or SIGTERM; returns the exit code."""
    view = View(Console())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="isthmus-demo-") as folder, ExitStack() as stack:
        stage = Stage(Path(folder), view)
        stack.callback(stage.end)
        try:
            with view.shown():
                _play(stage)
                view.say("")
                view.say("The demo runs on. Ctrl-C ends it and removes everything it made.")
                threading.Event().wait()
        except SceneError as error:
            view.say(f"The demo stopped: {error}")
            return 1
        except KeyboardInterrupt:
            view.console.print("Ending.", highlight=False)
    return 0


def _play(stage: Stage) -> None:
    _open(stage)
    _work(stage)
    _close_the_public_door(stage)
    _invite(stage)


def _open(stage: Stage) -> None:
    say = stage.view.say
    say("[bold]1. A hub starts in this network, with a CA of its own.[/bold]")
    stage.start_hub()
    hub = json.loads(stage.isthmus("iot", "hub", "show"))
    say(f"   hub {stage.host_name}: public door at {stage.public}")
    say("[bold]2. A private endpoint: an address inside the plant that leads to this hub only.[/bold]")
    stage.isthmus(
        *("network", "private-endpoint", "create", "--name", "plant", "--connection-name", "plant"),
        *("--private-connection-resource-id", hub["id"], "--group-id", "iotHub"),
        *("--ip-config", "name=plant", "group-id=iotHub", "member-name=iotHub", f"private-ip-address={stage.private}"),
    )
    say(f"   private endpoint 'plant' at {stage.private}, approved")
    for device in ("press-1", "press-2"):
        stage.isthmus("device-identity", "create", "-d", device)
    _start_actors(stage)


def _start_actors(stage: Stage) -> None:
    ca = stage.isthmus("ca")
    events = stage.isthmus("connection-string", "--events")
    stage.view.actor("reader", door="private", state="starting")
    stage.play(
        *("reader", "reader", events, "--ca", ca),
        *("--host-name", stage.host_name, "--private-address", stage.private),
        took=lambda name, happening: _reader_told(stage, name, happening),
    )
    for device, private in (("press-1", ""), ("press-2", stage.private)):
        stage.view.actor(device, door="private" if private else "public", state="starting")
        own = stage.isthmus("connection-string", "--device-id", device)
        arguments = ["--name", device, "--ca", ca]
        if private:
            arguments += ["--private-address", private]
        stage.play(device, "device", own, *arguments, took=lambda name, happening: _device_told(stage, name, happening))


def _work(stage: Stage) -> None:
    say = stage.view.say
    say("[bold]3. Two devices on the unmodified azure-iot-device SDK send; azure-eventhub reads.[/bold]")
    for device in ("press-1", "press-2"):
        stage.wait_for(f"read {device}", "read", MESSAGES_BEFORE_THE_SCENE)
    say("   every message was on disk before its device had the acknowledgement")
    say("[bold]4. A back-end on the unmodified azure-iot-hub SDK works with press-1.[/bold]")
    stage.play(
        *("backend", "backend", stage.isthmus("connection-string"), "--ca", stage.isthmus("ca")),
        *("--device", "press-1"),
        took=lambda name, happening: _backend_told(stage, happening),
    )
    for what in ("method", "command", "desired"):
        stage.wait_for("press-1", what)


def _close_the_public_door(stage: Stage) -> None:
    say = stage.view.say
    say("[bold]5. The public door is closed.[/bold]")
    say("   isthmus iot hub update --set properties.publicNetworkAccess=Disabled")
    say("   It proves first that messages go there and back by the private endpoint, as isthmus check path does.")
    before = stage.seen("press-2", "sent")
    stage.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled")
    stage.wait_for("press-1", "disconnected")
    stage.wait_for("press-1", "refused")
    say("   press-1 was cut at once, and is refused since.")
    say("   It hears a bare 'not authorized', as any stranger would; the owner may know more:")
    say("[bold]6. isthmus explain --device-id press-1[/bold]")
    for line in stage.isthmus("explain", "--device-id", "press-1").splitlines()[:8]:
        say(f"   {line}")
    stage.wait_for("press-2", "sent", before + MESSAGES_BEFORE_THE_SCENE)
    say("   press-2, at the private endpoint, never noticed; its messages are still read.")


def _invite(stage: Stage) -> None:
    data = f"--data {stage.data}"
    for line in (
        "[bold]7. Your own device:[/bold]",
        f"   open the public door    isthmus iot hub update --set properties.publicNetworkAccess=Enabled {data}",
        f"   register it             isthmus device-identity create -d my-device {data}",
        f"   its connection string   isthmus connection-string --device-id my-device {data}",
        f"   the CA it has to trust  {stage.isthmus('ca')}",
        f"   see what it sends       isthmus monitor-events {data}",
    ):
        stage.view.say(line)


def _device_told(stage: Stage, name: str, happening: dict[str, Any]) -> None:
    what = happening["what"]
    if what == "sent":
        stage.view.actor(name, state="sending", last=f"{happening['number']}: {happening['pressure']} bar")
        return
    stage.view.actor(name, state=what)
    match what:
        case "method":
            stage.view.say(f"   {name} answers the method {happening['name']} {happening['payload']}")
        case "command":
            stage.view.say(f"   {name} takes the command: {happening['text']}")
        case "desired":
            stage.view.say(f"   {name} is told its desired properties {happening['patch']} and reports them")
        case "disconnected" if stage.seen(name, "disconnected") < max(1, stage.seen(name, "connected")):
            stage.view.say(f"   {name} is disconnected")
        case "refused" if stage.seen(name, "refused") == 0:
            stage.view.say(f"   {name} is refused: {happening['reason']}")


def _reader_told(stage: Stage, name: str, happening: dict[str, Any]) -> None:
    if happening["what"] != "read":
        stage.view.actor(name, state=happening["reason"])
        return
    device = happening["device"]
    where = f"partition {happening['partition']}, number {happening['sequence']}"
    stage.view.actor(name, state="reading", last=f"{device} {happening['body']} ({where})")
    stage.happened[f"read {device}", "read"] += 1
    if stage.happened[f"read {device}", "read"] <= MESSAGES_BEFORE_THE_SCENE:
        stage.view.say(f"   read: {device} {happening['body']} ({where})")


def _backend_told(stage: Stage, happening: dict[str, Any]) -> None:
    match happening["what"]:
        case "method-answered":
            stage.view.say(f"   back-end: {happening['device']} answered {happening['status']} {happening['payload']}")
        case "desired-set":
            stage.view.say(f"   back-end: desired properties of {happening['device']} are at {happening['version']}")
        case "command-sent":
            stage.view.say(f"   back-end: command for {happening['device']} is in its queue")


def _isthmus() -> list[str]:
    return [sys.executable, "-m", "isthmus"]


def _free_addresses() -> tuple[str, str, str]:
    """Host name, public and private address: `localhost` when its ports are free, else the next free loopback pair."""
    base = ipaddress.ip_address("127.0.0.1")
    for step in range(0, ADDRESSES_TRIED_MAX * 2, 2):
        public, private = str(base + step), str(base + step + 1)
        if all(_is_free(address, port) for address in (public, private) for port in PORTS):
            return ("localhost" if step == 0 else public), public, private
    raise SceneError("No loopback address has the ports 8883 and 5671 free.")


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(PROBE_SECONDS)
        return probe.connect_ex((address, port)) != 0
