"""From a token to a certificate; the secret is told to nobody but the hub that the token means."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connector.fake_hub import LINK_ID, NAME, SECRET, FakeHub, fake_hub
from isthmus.base.clock import SystemClock
from isthmus.base.errors import ConfigurationError
from isthmus.base.ids import RandomIds
from isthmus.connector.dialling import Dialler
from isthmus.connector.enrolment import enrol
from isthmus.connector.folder import HUB_FILE, IDENTITY_FILE, Folder, held
from isthmus.connector.proxies import Proxies
from isthmus.connector.stopping import CannotGoOn
from isthmus.wire.link.messages import RefusalCode, Refused

CLOCK = SystemClock()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Folder]:
    """A connector's folder."""
    with held(tmp_path / "own") as folder:
        yield folder


@pytest.fixture
def dialler() -> Dialler:
    return Dialler(Proxies(), CLOCK)


async def test_a_token_becomes_an_identity_that_is_kept(
    hub: FakeHub, own: Folder, dialler: Dialler, tmp_path: Path
) -> None:
    identity = await enrol(hub.token(), own, dialler, clock=CLOCK, ids=RandomIds())
    assert (identity.certified.name, identity.certified.link_id) == (NAME, LINK_ID)
    assert [each.token_secret for each in hub.enrolments] == [SECRET]
    assert own.load() == identity
    assert [target.text for target in identity.targets] == [hub.hub]
    for name in (IDENTITY_FILE, HUB_FILE):
        assert (tmp_path / "own" / name).stat().st_mode & 0o777 == 0o600
    assert SECRET not in "".join(path.read_text() for path in (tmp_path / "own").iterdir())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ca_sha256": "0" * 64}, "another fingerprint"),
        ({"tls_name": "other.isthmus.test"}, r"not for other\.isthmus\.test"),
        ({"tls_name": "127.0.0.1"}, r"not for 127\.0\.0\.1"),
        ({"expires": 1}, "has expired"),
    ],
)
async def test_the_secret_stays_here_where_the_hub_is_not_the_tokens(
    hub: FakeHub, own: Folder, dialler: Dialler, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(CannotGoOn, match=words):
        await enrol(hub.token(**changes), own, dialler, clock=CLOCK, ids=RandomIds())
    assert hub.enrolments == []
    assert own.load() is None


async def test_a_ca_that_is_only_shown_vouches_for_nothing(
    hub: FakeHub, own: Folder, dialler: Dialler, tmp_path: Path, loopback_addresses: Callable[[], str]
) -> None:
    """Somebody in between may show the real CA's certificate, which is no secret, beside one of his own."""
    async with fake_hub(tmp_path / "between", loopback_addresses()) as between:
        between.show(hub)
        with pytest.raises(CannotGoOn, match="not by its CA"):
            await enrol(hub.token(hubs=(between.hub,)), own, dialler, clock=CLOCK, ids=RandomIds())
        assert between.enrolments == []


async def test_the_next_hub_is_asked_when_one_does_not_answer(
    hub: FakeHub, own: Folder, dialler: Dialler, loopback_addresses: Callable[[], str]
) -> None:
    identity = await enrol(
        hub.token(hubs=(f"{loopback_addresses()}:9443", hub.hub)), own, dialler, clock=CLOCK, ids=RandomIds()
    )
    assert len(identity.targets) == 2


async def test_a_used_token_is_refused_in_a_sentence(hub: FakeHub, own: Folder, dialler: Dialler) -> None:
    hub.refuse_enrolment = Refused(code=RefusalCode.TOKEN, message="The token was used.")
    with pytest.raises(CannotGoOn, match=r"^The hub refuses the enrolment: The token was used\.$"):
        await enrol(hub.token(), own, dialler, clock=CLOCK, ids=RandomIds())


async def test_a_hub_that_is_away_is_waited_for(hub: FakeHub, own: Folder, dialler: Dialler) -> None:
    token = hub.token(hubs=("nowhere.invalid:9443", hub.hub))
    await hub.stop()
    enrolling = asyncio.create_task(enrol(token, own, dialler, clock=CLOCK, ids=RandomIds()))
    await asyncio.wait((enrolling,), timeout=0.2)
    assert not enrolling.done()
    await hub.start()
    assert (await enrolling).certified.name == NAME


@pytest.mark.parametrize("name", [IDENTITY_FILE, HUB_FILE])
async def test_damaged_files_are_named(hub: FakeHub, own: Folder, dialler: Dialler, tmp_path: Path, name: str) -> None:
    await enrol(hub.token(), own, dialler, clock=CLOCK, ids=RandomIds())
    (tmp_path / "own" / name).write_text("-----BEGIN")
    with pytest.raises(ConfigurationError, match=r"damaged .* enrol the connector anew"):
        own.load()


async def test_a_key_without_its_own_certificate_is_damaged(
    hub: FakeHub, own: Folder, dialler: Dialler, tmp_path: Path
) -> None:
    first = await enrol(hub.token(), own, dialler, clock=CLOCK, ids=RandomIds())
    key = first.path.read_text().partition("-----BEGIN CERTIFICATE")[0]
    second = await enrol(hub.token(), own, dialler, clock=CLOCK, ids=RandomIds())
    chain = "-----BEGIN CERTIFICATE" + second.path.read_text().partition("-----BEGIN CERTIFICATE")[2]
    second.path.write_text(key + chain)
    with pytest.raises(ConfigurationError, match="another key's"):
        own.load()
