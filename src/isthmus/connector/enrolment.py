"""Enrolling: a token becomes a key and a certificate.

The token's secret is sent only to a hub that has proved to be the one the token means: its certificate chain must end
in the CA whose fingerprint stands in the token, and name the hub that stands there. Until then nothing is verified by
TLS itself, because the CA is not known before the hub has sent it.
"""

import asyncio
import datetime
import hashlib
import ipaddress
import logging

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from isthmus.base.clock import Clock
from isthmus.base.ids import Ids
from isthmus.connector.backoff import Backoff
from isthmus.connector.dialling import DialFailed, Dialler, Target
from isthmus.connector.folder import Enrolled, Folder, Identity, target_of
from isthmus.connector.identity import IdentityError, certificate_request, new_key
from isthmus.connector.line import Line
from isthmus.connector.stopping import CannotGoOn
from isthmus.connector.stream import LineStream
from isthmus.wire.link.connector_side import ConnectorEnrolment
from isthmus.wire.link.framing import LinkProtocolError
from isthmus.wire.link.messages import ENROL_SERVER_NAME, Certificate, Refused
from isthmus.wire.link.token import EnrolmentToken
from isthmus.wire.tls import client_context

ANSWER_SECONDS = 30.0
"""How long the hub may take to answer: it signs a certificate and commits a record."""

logger = logging.getLogger(__name__)


async def enrol(token: EnrolmentToken, folder: Folder, dialler: Dialler, *, clock: Clock, ids: Ids) -> Identity:
    """Asks the token's hubs in turn, again and again while it lasts, and stores what the first one gives.

    Raises `CannotGoOn`: for an expired token, for a refusal, and when somebody else answers and the hub does not.
    A hub that answers uses the token up, so that there is no second try after an answer.
    """
    backoff = Backoff(ids)
    while True:
        if token.expires * 1_000 <= clock.utc_ms():
            raise CannotGoOn("The enrolment token has expired: make a new one with `isthmus connector enrol`.")
        reached = await _first_line(token, dialler, clock)
        if reached is not None:
            return await _ask(*reached, token, folder, clock)
        await asyncio.sleep(backoff.next_seconds())


async def _first_line(token: EnrolmentToken, dialler: Dialler, clock: Clock) -> tuple[Line, x509.Certificate] | None:
    """A line to the first of the token's hubs that answers, and its CA; None when none did this time."""
    failures = []
    for hub in token.hubs:
        try:
            return await _trusted_line(target_of(hub, token.tls_name), token, dialler, clock)
        except DialFailed as error:
            logger.warning("not enrolled", extra={"hub": hub, "reason": str(error)})
            failures.append(error)
    if any(failure.judged for failure in failures):
        raise CannotGoOn(f"The connector cannot be enrolled: {'; '.join(map(str, failures))}.")
    return None


async def _trusted_line(
    target: Target, token: EnrolmentToken, dialler: Dialler, clock: Clock
) -> tuple[Line, x509.Certificate]:
    """A line to a hub that the token vouches for, and its CA; raises `DialFailed`."""
    called = Target(target.host, target.port, ENROL_SERVER_NAME)
    line = await dialler.dial(called, client_context(authorities=""))
    try:
        return line, judged_authority(line.layer.peer_chain, token, clock)
    except IdentityError as error:
        line.abort()
        raise DialFailed(f"{target.text} is not the hub of the token: {error}", judged=True) from error


def judged_authority(chain: tuple[bytes, ...], token: EnrolmentToken, clock: Clock) -> x509.Certificate:
    """The CA of a hub by its chain (DER, its own certificate first); `IdentityError` when the token means another."""
    authority = next((der for der in chain[1:] if hashlib.sha256(der).hexdigest() == token.ca_sha256), None)
    if authority is None:
        raise IdentityError("its CA has another fingerprint")
    trusted = x509.load_der_x509_certificate(authority)
    moment = datetime.datetime.fromtimestamp(clock.utc_ms() / 1_000, datetime.UTC)
    verifier = PolicyBuilder().store(Store([trusted])).time(moment).build_server_verifier(_subject(token.tls_name))
    between = [x509.load_der_x509_certificate(der) for der in chain[1:] if der != authority]
    try:
        verifier.verify(x509.load_der_x509_certificate(chain[0]), between)
    except (VerificationError, ValueError) as error:
        raise IdentityError(f"its certificate is not for {token.tls_name}, or not by its CA ({error})") from error
    return trusted


def _subject(name: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


async def _ask(
    line: Line, authority: x509.Certificate, token: EnrolmentToken, folder: Folder, clock: Clock
) -> Identity:
    key = new_key()
    enrolment = ConnectorEnrolment(token.secret, certificate_request(key, token.name))
    stream = LineStream(line)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await _answer(stream, enrolment)
    except TimeoutError:
        raise CannotGoOn(f"{line.hub} did not answer the enrolment within {ANSWER_SECONDS:.0f} s.") from None
    except LinkProtocolError as error:
        raise CannotGoOn(f"{line.hub} answered the enrolment with something else: {error}.") from error
    finally:
        stream.close()
    if isinstance(answer, Refused):
        raise CannotGoOn(f"The hub refuses the enrolment: {answer.message.rstrip('.')}.")
    enrolled = Enrolled(
        hubs=token.hubs,
        tls_name=token.tls_name,
        network=token.network,
        ca_pem=answer.ca_pem or authority.public_bytes(Encoding.PEM).decode(),
        obtained_ms=clock.utc_ms(),
    )
    try:
        return await asyncio.to_thread(folder.store, key, answer.pem, enrolled)
    except (IdentityError, OSError) as error:
        raise CannotGoOn(f"The certificate that the hub gave cannot be kept: {error}.") from error


async def _answer(stream: LineStream, enrolment: ConnectorEnrolment) -> Certificate | Refused:
    stream.write(enrolment.request)
    while True:
        await stream.wait(ANSWER_SECONDS)
        answer = enrolment.receive(stream.take())
        if answer is not None:
            return answer
        if stream.ended:
            raise LinkProtocolError(f"the connection ended ({stream.ended})")
