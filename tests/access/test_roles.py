"""Roles: patterns of actions, and scopes that cover by whole segments."""

import pytest

from isthmus.access.roles import APPROVE, CONNECTABLE, Role, allows, covers, segments_of


@pytest.mark.parametrize(
    ("role", "action", "allowed"),
    [
        (Role.OWNER, "isthmus/tokens/write", True),
        (Role.CONTRIBUTOR, "microsoft.devices/iothubs/listkeys/action", True),
        (Role.CONTRIBUTOR, "isthmus/tokens/write", False),
        (Role.CONTRIBUTOR, "ISTHMUS/Tokens/delete", False),
        (Role.READER, "Microsoft.Devices/IotHubs/read", True),
        (Role.READER, "microsoft.devices/iothubs/listkeys/action", False),
        (Role.READER, "microsoft.devices/iothubs/write", False),
        (Role.READER, "microsoft.devices/iothubs/readx", False),
        *((Role.NETWORK_APPROVER, f"{kind}/{APPROVE}".lower(), True) for kind in CONNECTABLE),
        (Role.NETWORK_APPROVER, "microsoft.devices/iothubs/privateendpointconnections/write", True),
        (Role.NETWORK_APPROVER, "microsoft.devices/iothubs/write", False),
        (Role.NETWORK_APPROVER, "microsoftxdevices/iothubs/read", False),
    ],
)
def test_a_role_allows_what_its_patterns_name(role: Role, action: str, allowed: bool) -> None:
    assert allows(role, action) is allowed


def test_a_scope_covers_itself_and_what_is_below_it() -> None:
    scope = segments_of("/a/B/")

    assert covers(scope, segments_of("/A/b"))
    assert covers(scope, segments_of("/a/b/c"))
    assert not covers(scope, segments_of("/a/bc"))
    assert not covers(scope, segments_of("/a"))
    assert covers(segments_of("/"), ())
