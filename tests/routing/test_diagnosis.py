"""What a failure says is to be set right."""

from dataclasses import replace

import pytest

from isthmus.resources.routing_endpoint import EndpointAuthentication, EndpointKind, RoutingEndpoint
from isthmus.routing.diagnosis import ROLES, Switch, diagnose
from isthmus.routing.sink import FailureKind

OWN = RoutingEndpoint(2, "g", "q", EndpointKind.QUEUE, EndpointAuthentication.IDENTITY, endpoint_uri="sb://a")
BY_KEY = replace(OWN, authentication=EndpointAuthentication.KEY)
ATTACHED = replace(OWN, identity="/subscriptions/x")


@pytest.mark.parametrize(
    ("endpoint", "kind", "switch"),
    [
        (OWN, FailureKind.IDENTITY, Switch.IDENTITY),
        (OWN, FailureKind.ROLE, Switch.ROLE),
        (OWN, FailureKind.NETWORK, Switch.TRUSTED_SERVICES),
        (BY_KEY, FailureKind.NETWORK, Switch.AUTHENTICATION_TYPE),
        (ATTACHED, FailureKind.NETWORK, Switch.AUTHENTICATION_TYPE),
        (BY_KEY, FailureKind.AUTHENTICATION, Switch.KEY),
        (OWN, FailureKind.AUTHENTICATION, Switch.TOKEN),
        (OWN, FailureKind.NAME, Switch.NAME),
        (OWN, FailureKind.OUTBOUND, Switch.OUTBOUND),
        (OWN, FailureKind.NOT_FOUND, Switch.ENTITY),
        (OWN, FailureKind.TRANSIENT, Switch.NONE),
        (OWN, "a kind of a later release", Switch.NONE),
    ],
)
def test_each_failure_names_its_switch(endpoint: RoutingEndpoint, kind: FailureKind, switch: Switch) -> None:
    found = diagnose(endpoint, kind)
    assert found.switch is switch
    assert found.sentence
    assert found.remedy


def test_the_role_is_that_of_the_target() -> None:
    for kind, role in ROLES.items():
        assert role in diagnose(replace(OWN, kind=kind), FailureKind.ROLE).remedy
