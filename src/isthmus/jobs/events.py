"""Events about scheduled jobs, as outbox rows that commit with the change of state they tell of."""

import msgspec

from isthmus.base.ids import HubId
from isthmus.base.state import OutboxEvent
from isthmus.devices.events import job_event
from isthmus.jobs.scheduled_job import ScheduledJob, scheduled_to_wire

_encode = msgspec.json.Encoder().encode


def job_changed(hub: HubId, job: ScheduledJob, utc_ms: int) -> OutboxEvent:
    """A job came into a state; the body is the job as services read it."""
    wire = scheduled_to_wire(job)
    return job_event(hub, str(wire["status"]), _encode(wire), utc_ms)
