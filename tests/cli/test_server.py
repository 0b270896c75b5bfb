"""The command line and a server of its own: what still works when the server has been stopped."""

from support.server import RunningHub


def test_a_stopped_server_can_still_be_asked_for_keys_and_reasons(running_hub: RunningHub) -> None:
    hub = running_hub
    hub.create_device("press-1")
    hub.isthmus("module-identity", "create", "-d", "press-1", "-m", "vision")
    hub.isthmus("device-identity", "show", "-d", "nobody", code=1)
    asked = (
        ("connection-string",),
        ("connection-string", "--events", "--policy", "service"),
        ("connection-string", "--device-id", "press-1"),
        ("connection-string", "--device-id", "press-1", "--module-id", "vision"),
        ("ca",),
        ("env",),
        ("explain", "--device-id", "nobody"),
    )
    told = [hub.isthmus(*words) for words in asked]
    hub.stop()
    assert [hub.isthmus(*words) for words in asked] == told
    assert "nobody" in told[-1]


def test_a_stopped_server_changes_nothing(running_hub: RunningHub) -> None:
    hub = running_hub
    hub.stop()
    for words in (("device-identity", "create", "-d", "a"), ("device-identity", "list"), ("iot", "hub", "delete")):
        assert hub.isthmus(*words, code=1).count("\n") == 1
    assert "isthmus up" in hub.isthmus("device-identity", "create", "-d", "a", code=1)


def test_a_killed_server_starts_again_with_what_it_had(running_hub: RunningHub) -> None:
    hub = running_hub
    own = hub.create_device("press-1")
    hub.restart()
    assert hub.device_connection_string("press-1") == own
