"""Feedback and file notifications as services receive and settle them over HTTPS (IoT Hub REST reference).

A message is handed out under a lock, whose token is the `ETag` of the answer, and waits again when nobody has settled
it in time. There is no rejecting here: that is AMQP's.
"""

from collections.abc import Mapping

from isthmus.base.clock import iso_utc
from isthmus.commands import feedback
from isthmus.commands.servicebound import ServiceboundMessage, ServiceboundQueue
from isthmus.servers.gateway.http_message import Call, Reply
from isthmus.servers.gateway.http_routes import Action
from isthmus.servers.gateway.http_service import Handler

FILE_CONTENT_TYPE = "application/json; charset=utf-8"


class ServiceboundApi:
    """Answers the calls about one kind of message; `receive`, `complete` and `abandon` are its operations."""

    def __init__(
        self, queue: ServiceboundQueue, content_type: str, *, receive: Action, complete: Action, abandon: Action
    ) -> None:
        self._queue = queue
        self._content_type = content_type
        self.handlers: Mapping[Action, Handler] = {
            receive: self._receive,
            complete: self._complete,
            abandon: self._abandon,
        }

    async def _receive(self, call: Call) -> Reply:
        waiting = await self._queue.receive(call.hub.number)
        return Reply(200, waiting[0].body, self._headers(waiting[0])) if waiting else Reply(204)

    async def _complete(self, call: Call) -> Reply:
        await self._queue.complete(call.hub.number, call.name)
        return Reply(204)

    async def _abandon(self, call: Call) -> Reply:
        await self._queue.abandon(call.hub.number, call.name)
        return Reply(204)

    def _headers(self, message: ServiceboundMessage) -> dict[str, str]:
        return {
            "Content-Type": self._content_type,
            "ETag": f'"{message.lock_token}"',
            "iothub-sequencenumber": str(message.sequence),
            "iothub-enqueuedtime": iso_utc(message.enqueued_ms),
            "iothub-expiry": iso_utc(message.expires_ms),
            "iothub-deliverycount": str(message.delivery_count),
            "iothub-userid": message.user_id,
        }


def servicebound_handlers(
    batches: ServiceboundQueue, file_notifications: ServiceboundQueue
) -> Mapping[Action, Handler]:
    """What answers for feedback and for file notifications."""
    told = ServiceboundApi(
        batches,
        feedback.CONTENT_TYPE,
        receive=Action.RECEIVE_FEEDBACK,
        complete=Action.COMPLETE_FEEDBACK,
        abandon=Action.ABANDON_FEEDBACK,
    )
    files = ServiceboundApi(
        file_notifications,
        FILE_CONTENT_TYPE,
        receive=Action.RECEIVE_FILE_NOTIFICATION,
        complete=Action.COMPLETE_FILE_NOTIFICATION,
        abandon=Action.ABANDON_FILE_NOTIFICATION,
    )
    return {**told.handlers, **files.handlers}
