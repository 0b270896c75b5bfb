"""Links of a probe: what it sends is stored for nobody and accepted, and what it receives is stored first as well."""

from isthmus.base.errors import HubError
from isthmus.resources.hub import Hub
from isthmus.servers.gateway.amqp_links import LinkHandler, Pump
from isthmus.servers.gateway.ports import ProbeOutlet
from isthmus.wire.amqp import message
from isthmus.wire.amqp.events import CreditGranted, Transfer
from isthmus.wire.amqp.link import Link
from isthmus.wire.amqp.states import ACCEPTED_STATE, Rejected

PROBE_CREDIT = 4
"""Messages on one link, in all; a walk sends one."""


class ProbeReceiver(LinkHandler):
    """Takes a probe's messages, and accepts each once it is durable."""

    def __init__(self, link: Link, pump: Pump, mail: ProbeOutlet, hub: Hub, device_id: str) -> None:
        self._link = link
        self._pump = pump
        self._mail = mail
        self._hub = hub
        self._device_id = device_id
        link.accept(credit=PROBE_CREDIT)

    def transfer(self, transfer: Transfer) -> None:
        self._pump.spawn(self._store(transfer))

    async def _store(self, transfer: Transfer) -> None:
        try:
            await self._mail.send(self._hub, self._device_id, transfer.payload)
        except HubError as error:
            self._link.settle(transfer.delivery_id, Rejected(self._pump.refused(error, self._device_id)))
        else:
            self._link.settle(transfer.delivery_id, ACCEPTED_STATE)
        self._pump.flush()


class ProbeSender(LinkHandler):
    """Sends a probe one message with its own name, once that is durable and there is credit."""

    def __init__(self, link: Link, pump: Pump, mail: ProbeOutlet, hub: Hub, device_id: str) -> None:
        self._link = link
        self._pump = pump
        self._mail = mail
        self._hub = hub
        self._device_id = device_id
        self._begun = False
        link.accept()

    def credit(self, granted: CreditGranted) -> None:
        if not self._begun and self._link.sendable:
            self._begun = True
            self._pump.spawn(self._send())

    async def _send(self) -> None:
        payload = self._device_id.encode()
        try:
            await self._mail.send(self._hub, self._device_id, payload)
        except HubError as error:
            self._link.detach(self._pump.refused(error, self._device_id))
        else:
            if self._link.sendable:
                self._link.send(message.data(payload), settled=True)
        self._pump.flush()
