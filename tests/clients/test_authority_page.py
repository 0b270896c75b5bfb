"""docs/how-to/devices-of-your-ca.md, word for word: its commands, in their order, and the device that they make."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from azure.iot.device import X509, IoTHubDeviceClient

from house.source import ROOT
from support.server import RunningHub

PAGE = ROOT / "docs" / "how-to" / "devices-of-your-ca.md"
SECONDS_MAX = 60.0
BEFORE_RENEWAL = "## Renew the CA"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed here")
def test_the_page_makes_a_device_and_renews_its_ca(hub: RunningHub, tmp_path: Path) -> None:
    first, renewal = PAGE.read_text().split(BEFORE_RENEWAL)
    run(hub, first, tmp_path)
    pair = X509(str(tmp_path / "press-1.pem"), str(tmp_path / "press-1.key"))
    device = IoTHubDeviceClient.create_from_x509_certificate(
        pair, hub.host_name, "press-1", server_verification_cert=hub.ca.read_text()
    )
    device.connect()
    try:
        device.send_message("by the page")
        assert '"device": "press-1"' in run(hub, renewal, tmp_path)
    finally:
        device.shutdown()
    names = [each["name"] for each in hub.json("iot", "hub", "certificate", "list")["value"]]
    assert names == ["next"]


def run(hub: RunningHub, text: str, folder: Path) -> str:
    """Runs the commands of a text in one shell, which stops at the first that fails; what they printed."""
    commands = re.findall(r"^\$ (.*)$", text, re.MULTILINE)
    assert commands
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", "-ec", "\n".join(commands)],
        cwd=folder,
        env={**os.environ, "ISTHMUS_DATA": str(hub.data), "PATH": path},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
