"""The probe's verdicts, from a real hub over TLS."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from clients.sas import sas_token
from isthmus.lab.probe import CLOSED, LINK, OPEN, PLANES, REFUSED, Errand, run
from support.server import RunningHub

OTHER_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="

HUB_PLANES = [plane for plane in PLANES if plane != LINK]


def test_valid_credentials_are_open_on_every_plane(named_hub: RunningHub) -> None:
    assert run(errand(named_hub)) == [OPEN] * len(HUB_PLANES)


def test_a_closed_public_side_refuses_on_every_plane(named_hub: RunningHub) -> None:
    sent = errand(named_hub)
    named_hub.isthmus("iot", "hub", "update", "--set", "properties.publicNetworkAccess=Disabled", "--force")
    assert run(sent) == [REFUSED] * len(HUB_PLANES)


def test_where_nobody_listens_is_closed(named_hub: RunningHub, loopback_addresses: Callable[[], str]) -> None:
    nobody = loopback_addresses()
    sent = replace(errand(named_hub), tries=tuple((plane, nobody, False) for plane in PLANES))
    assert run(sent) == [CLOSED] * len(PLANES)


def test_another_certificate_is_told(named_hub: RunningHub) -> None:
    sent = replace(errand(named_hub), host_name="other.example.test", tries=(("mqtt", named_hub.address, False),))
    (verdict,) = run(sent)
    assert verdict.startswith("certificate: ")


def test_a_name_that_nobody_has_is_told(named_hub: RunningHub) -> None:
    (verdict,) = run(
        replace(errand(named_hub), host_name="nobody.invalid", tries=(("https", named_hub.address, True),))
    )
    assert verdict == "no such name"


def test_a_name_that_leads_elsewhere_is_told(named_hub: RunningHub) -> None:
    sent = replace(errand(named_hub), host_name="localhost", tries=(("https", named_hub.address, True),))
    assert run(sent) == ["the name means 127.0.0.1"]


@pytest.fixture
def named_hub(make_hub: Callable[..., RunningHub]) -> RunningHub:
    """SASL PLAIN names a hub by its first label, so it needs a name."""
    return make_hub(hostname="probed.isthmus.test")


def errand(hub: RunningHub) -> Errand:
    device = dict(part.split("=", 1) for part in hub.create_device("probe").split(";"))
    service = dict(part.split("=", 1) for part in hub.connection_string("service").split(";"))
    name = device["HostName"]
    return Errand(
        host_name=name,
        ca=str(hub.ca),
        device_id="probe",
        device_token=sas_token(f"{name}/devices/probe", device["SharedAccessKey"]),
        policy="service",
        policy_token=sas_token(name, service["SharedAccessKey"], "service"),
        tries=tuple((plane, hub.address, False) for plane in HUB_PLANES),
    )
