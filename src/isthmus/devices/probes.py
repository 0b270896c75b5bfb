"""Probes: identities that the hub makes to try its own doors, for minutes, in memory only.

A probe is in no registry: lists, statistics, twins and queries cannot show it, and nobody can make or change one, since
its name is none that an id may have. Its key never leaves this file; who walks a path is given a token that is good for
the probe's own name and nothing else. What a probe may do at the doors is send itself a message (see the gateway).
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Protocol

from isthmus.base.clock import Clock, iso_utc
from isthmus.base.errors import Refusal
from isthmus.base.ids import PROBE_PREFIX, DeviceRef, HubId, Ids, is_probe
from isthmus.base.sas_token import sign
from isthmus.devices.identity import Authentication, Capabilities, Identity, Status, SymmetricKey

PROBE_SECONDS = 120
"""A probe's life, and its token's: longer than any walk takes, too short to be of use to who finds the token."""

PROBES_MAX = 1_024
"""Probes at a time: some planes of some hundred endpoints. With one more, the oldest is forgotten and refused."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What a walk needs: the name, and a token for it."""

    device_id: str
    token: str = field(repr=False)


class Registry(Protocol):
    """The identity registry, as far as it is asked here."""

    async def get(self, ref: DeviceRef) -> Identity | None:
        """The identity, or None."""


@dataclass(slots=True)
class _Made:
    identity: Identity
    hub: HubId
    until: float
    """Monotonic seconds."""
    refusal: Refusal | None = None


class Probes:
    """The probes of all hubs, and the registry behind them; used on the event loop only."""

    def __init__(self, registry: Registry, clock: Clock, ids: Ids) -> None:
        self._registry = registry
        self._clock = clock
        self._ids = ids
        self._made: OrderedDict[str, _Made] = OrderedDict()

    def make(self, hub: HubId, host_name: str) -> Probe:
        """Makes a probe of a hub; `forget` it when the walk is over."""
        now_ms = self._clock.utc_ms()
        device_id, key = f"{PROBE_PREFIX}{self._ids.uuid()}", self._ids.key()
        until = self._clock.monotonic() + PROBE_SECONDS
        self._made[device_id] = _Made(_identity(device_id, key, now_ms), hub, until)
        if len(self._made) > PROBES_MAX:
            self._made.popitem(last=False)
        expires_s = now_ms // 1_000 + PROBE_SECONDS
        return Probe(device_id, sign(f"{host_name}/devices/{device_id}", key, expires_s))

    def forget(self, probe: Probe) -> Refusal | None:
        """Ends a probe's life, and returns why a door refused it, None when none did."""
        made = self._made.pop(probe.device_id, None)
        return made.refusal if made is not None else None

    def refused(self, device_id: str, refusal: Refusal) -> None:
        """Keeps why a door refused a probe; without effect for whoever is none."""
        made = self._made.get(device_id)
        if made is not None:
            made.refusal = refusal

    async def get(self, ref: DeviceRef) -> Identity | None:
        """The identity at the doors: a probe's, or the registry's."""
        if not is_probe(ref.device_id):
            return await self._registry.get(ref)
        made = self._made.get(ref.device_id)
        is_live = made is not None and made.hub == ref.hub and self._clock.monotonic() < made.until
        return made.identity if made is not None and is_live and not ref.module_id else None


def _identity(device_id: str, key: str, now_ms: int) -> Identity:
    return Identity(
        device_id=device_id,
        module_id="",
        generation_id="",
        etag="",
        status=Status.ENABLED,
        status_reason=None,
        status_updated_time=iso_utc(now_ms),
        authentication=Authentication(SymmetricKey(key, key)),
        capabilities=Capabilities(),
        device_scope="",
        parent_scopes=(),
        managed_by=None,
    )
