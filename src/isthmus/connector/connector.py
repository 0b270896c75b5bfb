"""The connector as a whole: connected to its hub, listening in its network, its certificate kept young.

Theory of operation. Two tasks run until `run` is cancelled or nothing more can be done:

- one keeps a control connection: it tries the hub's addresses in turn, beginning with the one that worked last, lives
  through the conversation, pauses with `Backoff`, and begins again. Spare lines are dialled to the address that the
  control connection has, and only while there is one: without it nobody would tell whether what is carried may be;
- one watches the certificate: at two thirds of its life it asks for the next by whatever control connection there is,
  asks again when there is no answer, and gives up when the certificate has expired.

What is carried depends on neither: it lives until its own two ends have had enough, the endpoint goes, or the hub cuts
it. A device that comes while the hub is away waits a little for a line (`listening.py`), then is reset, so that its own
retry begins.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

from isthmus.base.clock import Clock, iso_utc
from isthmus.base.ids import Ids
from isthmus.connector.backoff import Backoff
from isthmus.connector.checking import PathChecks
from isthmus.connector.control import Ended, Ending, converse
from isthmus.connector.dialling import DialFailed, Dialler, Target
from isthmus.connector.folder import Folder, Identity
from isthmus.connector.identity import IdentityError, certificate_request, new_key, renewal_due_ms
from isthmus.connector.line import Line
from isthmus.connector.listening import ListeningPlaces, Places
from isthmus.connector.naming import NameService
from isthmus.connector.spares import SpareLines
from isthmus.connector.stopping import CannotGoOn
from isthmus.connector.stream import LineStream
from isthmus.wire.link.connector_side import ConnectorLink
from isthmus.wire.link.messages import CONTROL_PROTOCOL, VERSION, Certificate, Check, Hello, Refused, Setup, Status
from isthmus.wire.tls import client_context

RENEWAL_ANSWER_SECONDS = 30.0
"""How long an answer to a renewal is awaited before it is asked for again."""

RENEWAL_PAUSE_SECONDS_MIN = 0.25
"""Between two renewals that did not help, however short the life that is left."""

LOOK_SECONDS_MAX = 60.0
"""The certificate's age is looked at as often at least, because the machine's clock may be set meanwhile."""

CHECKS_MAX = 16
"""Checks performed at once; a further one is answered with a refusal."""

logger = logging.getLogger(__name__)

Perform = Callable[[dict[str, object]], Awaitable[dict[str, object]]]
"""Performs a check: its request in, its result out."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the connector is told about the machine: its name, where to listen, how many connections it can hold."""

    machine_name: str
    places: Places
    most: int


class Connector:
    """One connector process. Make it on a running loop; `run` it once, then `drain`."""

    def __init__(
        self,
        identity: Identity,
        folder: Folder,
        dialler: Dialler,
        surroundings: Surroundings,
        *,
        clock: Clock,
        ids: Ids,
        on_set_up: Callable[[Setup], None],
        perform: Perform | None = None,
    ) -> None:
        """`on_set_up` hears of every setup after it was applied; `perform` is a path check when it is left out.

        Raises `CannotGoOn` for an identity that is none.
        """
        self._identity = identity
        self._folder = folder
        self._dialler = dialler
        self._clock = clock
        self._ids = ids
        self._machine_name = surroundings.machine_name
        self._instance = ids.uuid()
        self._on_set_up = on_set_up
        self._contexts = _contexts(identity)
        self._targets = list(identity.targets)
        self._backoff = Backoff(ids)
        self._spares = SpareLines(self._dial_line, clock=clock, ids=ids)
        self.listening = ListeningPlaces(
            self._spares, places=surroundings.places, most=surroundings.most, changed=self._report
        )
        self._names = NameService(places=surroundings.places, ids=ids, changed=self._report)
        self._perform = perform or PathChecks(surroundings.places.of, self._addresses, clock, ids).perform
        self._link: ConnectorLink | None = None
        self._stream: LineStream | None = None
        self._next_key = ""
        self._renewed = asyncio.Event()
        self._work: set[asyncio.Task[None]] = set()

    @property
    def certificate_expires_ms(self) -> int:
        """When the certificate in use expires, in milliseconds since 1970."""
        return self._identity.certified.not_after_ms

    async def run(self) -> None:
        """Runs until cancelled; raises `CannotGoOn`. Listeners and what is carried are left to `drain`."""
        tasks = [asyncio.create_task(work) for work in (self._stay_connected(), self._stay_certified())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def drain(self, seconds: float) -> None:
        """Stops accepting, lets what is carried end for `seconds`, then cuts it off."""
        self.listening.stop_accepting()
        self._names.close()
        cut = await self.listening.drain(seconds)
        await self._spares.close()
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        if cut:
            logger.warning("connections cut off at the end", extra={"count": cut})

    # ── the control connection ───────────────────────────────────────────────────────────────────────────────────

    async def _stay_connected(self) -> None:
        while True:
            stream = await self._reach()
            if stream is not None:
                ended = await self._converse(stream)
                self._after(ended, stream)
            await asyncio.sleep(self._backoff.next_seconds())

    async def _reach(self) -> LineStream | None:
        """A control connection to the first address that answers; raises `CannotGoOn` when only somebody else does."""
        self._check_life()
        failures = []
        for target in tuple(self._targets):
            try:
                line = await self._dialler.dial(target, self._contexts.control)
            except DialFailed as error:
                logger.warning("hub not reached", extra={"hub": target.text, "reason": str(error)})
                failures.append(error)
                continue
            self._prefer(target)
            return LineStream(line)
        judged = next((failure for failure in failures if failure.judged), None)
        if judged is not None:
            raise CannotGoOn(
                f"What answers is not this connector's hub ({judged}): "
                "look where its name leads, or enrol the connector anew when the hub has a new CA."
            )
        return None

    def _prefer(self, target: Target) -> None:
        self._targets.remove(target)
        self._targets.insert(0, target)

    async def _converse(self, stream: LineStream) -> Ended:
        hello = Hello(
            version=VERSION, name=self._identity.certified.name, instance=self._instance, hostname=self._machine_name
        )
        self._link, self._stream = ConnectorLink(hello, self._clock.monotonic()), stream
        try:
            return await converse(stream, self._link, self, self._clock)
        finally:
            self._link = self._stream = None
            self._spares.pause()
            stream.close()

    def _after(self, ended: Ended, stream: LineStream) -> None:
        logger.warning("control connection ended", extra={"hub": stream.hub, "reason": ended.reason})
        if ended.worked:
            self._backoff.reset()
        if ended.ending is Ending.DRAINED:
            # Another address may be another server, which does not stop.
            self._targets.append(self._targets.pop(0))

    async def _dial_line(self) -> Line:
        return await self._dialler.dial(self._targets[0], self._contexts.data)

    # ── what the hub says (control.Audience) ─────────────────────────────────────────────────────────────────────

    def set_up(self, setup: Setup) -> None:
        """Applies the setup and reports what became of it."""
        self._backoff.reset()
        self.listening.apply(setup.endpoints, self._identity.certified.link_id)
        self._names.apply(setup.names)
        self._spares.keep(setup.spares)
        self._report()
        logger.info("set up", extra={"generation": setup.generation, "endpoints": len(setup.endpoints)})
        self._on_set_up(setup)

    def certificate(self, certificate: Certificate) -> None:
        """Keeps a renewed certificate."""
        key, self._next_key = self._next_key, ""
        if key:
            self._start(self._keep(key, certificate))

    def renewal_refused(self, refused: Refused) -> None:
        """The renewal is asked for again later."""
        logger.error("certificate not renewed", extra={"reason": refused.message})
        self._renewed.set()

    def check(self, check: Check) -> None:
        """Performs a check and answers it."""
        if len(self._work) >= CHECKS_MAX:
            self._answer(check.id, ok=False, body={"error": "this connector performs no such check now"})
        else:
            self._start(self._check(self._perform, check))

    async def _check(self, perform: Perform, check: Check) -> None:
        try:
            body = await perform(check.request)
        except Exception:
            logger.exception("check failed")
            self._answer(check.id, ok=False, body={"error": "the check failed inside the connector; its log says why"})
            return
        self._answer(check.id, ok=True, body=body)

    def _addresses(self) -> set[str]:
        """Where the setup has something of ours."""
        return {each.address for each in (*self.listening.statuses, *self._names.statuses)}

    def _answer(self, check_id: int, *, ok: bool, body: dict[str, object]) -> None:
        if self._link is not None and self._stream is not None:
            self._link.answer(check_id, ok=ok, body=body)
            self._stream.wake()

    def _report(self) -> None:
        if self._link is None or self._stream is None or self._link.setup is None:
            return
        generation = self._link.setup.generation
        endpoints, names = self.listening.statuses, self._names.statuses
        self._link.report(Status(generation=generation, endpoints=endpoints, names=names))
        self._stream.wake()

    def _start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # ── the certificate ──────────────────────────────────────────────────────────────────────────────────────────

    async def _stay_certified(self) -> None:
        while True:
            self._check_life()
            due = renewal_due_ms(self._identity.enrolled.obtained_ms, self.certificate_expires_ms)
            left = (due - self._clock.utc_ms()) / 1_000
            if left > 0:
                await asyncio.sleep(min(left, LOOK_SECONDS_MAX))
            elif not await self._renew():
                await asyncio.sleep(self._pause_before_renewal())

    def _check_life(self) -> None:
        expires = self.certificate_expires_ms
        if expires <= self._clock.utc_ms():
            raise CannotGoOn(
                f"The connector's certificate expired at {iso_utc(expires)}, before the hub could renew it: "
                "enrol the connector anew."
            )

    def _pause_before_renewal(self) -> float:
        """A tenth of the time that is left, so that a short life has several tries too."""
        return min(LOOK_SECONDS_MAX, max(RENEWAL_PAUSE_SECONDS_MIN, self._seconds_left() / 10))

    def _seconds_left(self) -> float:
        """What is left of the certificate's life."""
        return max(0.0, (self.certificate_expires_ms - self._clock.utc_ms()) / 1_000)

    async def _renew(self) -> bool:
        """Asks for the next certificate; False when there was no answer that helped."""
        if self._link is None or self._stream is None or self._link.setup is None:
            return False
        before = self._identity
        self._renewed.clear()
        self._next_key = new_key()
        self._link.renew(certificate_request(self._next_key, before.certified.name))
        self._stream.wake()
        try:
            async with asyncio.timeout(min(RENEWAL_ANSWER_SECONDS, self._seconds_left() / 2)):
                await self._renewed.wait()
        except TimeoutError:
            logger.error("certificate not renewed", extra={"reason": "the hub did not answer"})
        return self._identity is not before

    async def _keep(self, key: str, certificate: Certificate) -> None:
        """Stores a renewed certificate, and uses it for every line from now on."""
        try:
            self._identity, self._contexts = await asyncio.to_thread(self._store, key, certificate)
        except (IdentityError, OSError, CannotGoOn) as error:
            logger.error("renewed certificate not kept", extra={"reason": str(error)})
        else:
            logger.info("certificate renewed", extra={"expires": iso_utc(self.certificate_expires_ms)})
            if self._link is not None:
                self._spares.renew()
        self._renewed.set()

    def _store(self, key: str, certificate: Certificate) -> "tuple[Identity, _Contexts]":
        enrolled = self._identity.enrolled.renewed(certificate.ca_pem, self._clock.utc_ms())
        identity = self._folder.store(key, certificate.pem, enrolled)
        return identity, _contexts(identity)


@dataclass(frozen=True, slots=True)
class _Contexts:
    control: ssl.SSLContext
    data: ssl.SSLContext


def _contexts(identity: Identity) -> _Contexts:
    """TLS for the two kinds of connections; reads the certificate's file. Raises `CannotGoOn` when it is of no use."""
    path, authorities = str(identity.path), identity.enrolled.ca_pem
    try:
        return _Contexts(
            client_context(authorities=authorities, certificate=path, protocol=CONTROL_PROTOCOL),
            client_context(authorities=authorities, certificate=path),
        )
    except (OSError, ValueError) as error:
        raise CannotGoOn(
            f"{path} or the hub's CA beside it cannot be used ({error}): enrol the connector anew."
        ) from error
