"""CA certificates of hubs in ARM's paths: `…/Microsoft.Devices/IotHubs/{hub}/certificates[/{name}[/…]]`.

Who is connected by a certificate that goes, is replaced or is not verified any more is cut off before the change is
answered. The journal has what a certificate says, never a code.
"""

from collections.abc import Callable
from dataclasses import replace

from isthmus.access.ca_certificate import CaCertificate
from isthmus.access.explain import change_texts
from isthmus.access.journal import Journal
from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.resources.ca_certificates import (
    certificate_to_arm,
    code_to_arm,
    find_certificate,
    new_code,
    put_certificate,
    remove_certificate,
    require_certificate,
    verified,
    with_code,
)
from isthmus.resources.hub import Hub
from isthmus.resources.hubs import Hubs
from isthmus.servers.management.arm import CREATED, Routes, change_of
from isthmus.servers.management.request import Call, Reply


class ArmCertificates:
    """Answers ARM calls about CA certificates of hubs; used on the event loop only."""

    def __init__(self, hubs: Hubs, journal: Journal, clock: Clock, ids: Ids) -> None:
        self._hubs = hubs
        self._journal = journal
        self._clock = clock
        self._ids = ids
        certificates = "microsoft.devices/iothubs/*/certificates"
        self.routes: Routes = {
            ("GET", certificates): self._list,
            ("GET", f"{certificates}/*"): self._show,
            ("PUT", f"{certificates}/*"): self._put,
            ("DELETE", f"{certificates}/*"): self._delete,
            ("POST", f"{certificates}/*/generateverificationcode"): self._generate,
            ("POST", f"{certificates}/*/verify"): self._verify,
        }
        """Handlers by method and path pattern; see `arm.Routes`."""

    async def _list(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        return Reply(value={"value": [certificate_to_arm(hub, each) for each in hub.certificates]})

    async def _show(self, call: Call, names: tuple[str, ...]) -> Reply:
        hub = self._hubs.require(names[0])
        return Reply(value=certificate_to_arm(hub, require_certificate(hub, names[1])))

    async def _put(self, call: Call, names: tuple[str, ...]) -> Reply:
        body, now_ms = call.json(), self._clock.utc_ms()
        before, hub, made = await self._change(
            names, lambda present: put_certificate(present, names[1], body, call.if_match, now_ms)
        )
        if before != made:
            self._note(call, hub, f"certificate {made.name} {'updated' if before else 'created'}", before, made)
        return Reply(200 if before else CREATED, certificate_to_arm(hub, made))

    async def _delete(self, call: Call, names: tuple[str, ...]) -> Reply:
        before = require_certificate(self._hubs.require(names[0]), names[1])
        hub = await self._hubs.change(names[0], lambda present: remove_certificate(present, names[1], call.if_match))
        self._note(call, hub, f"certificate {before.name} deleted", before, None)
        return Reply()

    async def _generate(self, call: Call, names: tuple[str, ...]) -> Reply:
        code, now_ms = new_code(self._ids.uuid), self._clock.utc_ms()
        before, hub, made = await self._change(
            names, lambda present: with_code(present, names[1], call.if_match, code, now_ms)
        )
        self._note(call, hub, f"verification code of certificate {made.name} generated", before, made)
        return Reply(value=code_to_arm(hub, made))

    async def _verify(self, call: Call, names: tuple[str, ...]) -> Reply:
        proof, now_ms = call.json().get("certificate"), self._clock.utc_ms()
        before, hub, made = await self._change(
            names, lambda present: verified(present, names[1], call.if_match, proof, now_ms)
        )
        self._note(call, hub, f"certificate {made.name} verified", before, made)
        return Reply(value=certificate_to_arm(hub, made))

    async def _change(
        self, names: tuple[str, ...], rule: Callable[[Hub], Hub]
    ) -> tuple[CaCertificate | None, Hub, CaCertificate]:
        """The certificate before the change, the hub after it, and the certificate in it."""
        before: list[CaCertificate | None] = []

        def noted(present: Hub) -> Hub:
            before[:] = [find_certificate(present, names[1])]
            return rule(present)

        hub = await self._hubs.change(names[0], noted)
        return before[0], hub, require_certificate(hub, names[1])

    def _note(
        self, call: Call, hub: Hub, detail: str, before: CaCertificate | None, after: CaCertificate | None
    ) -> None:
        was, now = change_texts(before and certificate_to_arm(hub, before), after and certificate_to_arm(hub, after))
        self._journal.write(replace(change_of(call, hub.name, detail), before=was, after=now))
