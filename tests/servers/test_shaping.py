"""How a connection is slowed down."""

from isthmus.servers.gateway.shaping import Pause, Reading


class FakeConnection:
    """Counts pauses."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")


def test_reading_goes_on_when_the_last_reason_is_gone() -> None:
    connection = FakeConnection()
    reading = Reading(connection)
    reading.resume(Pause.RATE)
    reading.pause(Pause.RATE)
    reading.pause(Pause.RATE)
    reading.pause(Pause.BACKLOG)
    reading.resume(Pause.RATE)
    assert connection.calls == ["pause"]
    reading.resume(Pause.BACKLOG)
    reading.resume(Pause.BACKLOG)

    assert connection.calls == ["pause", "resume"]
