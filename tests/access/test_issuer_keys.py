"""Keys that an issuer publishes: when they are fetched, how long they count, what is not taken for them."""

import asyncio
import json
from dataclasses import dataclass, field

import pytest
from joserfc.jwk import RSAKey

from isthmus.access.issuer_keys import (
    ASKS_MAX,
    ASKS_SECONDS,
    KEPT_SECONDS_MAX,
    REFRESH_SECONDS,
    WELL_KNOWN,
    IssuerKeys,
    IssuerPages,
)

NAME = "https://login.plant.example/realms/plant"
KEY_SET = f"{NAME}/keys"
PUBLIC = RSAKey.generate_key(2048).as_dict(private=False)


@dataclass
class SteppedClock:
    """Stands still until a test moves it."""

    now: float = 5_000.0

    def utc_ms(self) -> int:
        return int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now


@dataclass
class Pages:
    """What the issuer publishes; `asked` has every address, and a page that is not there fails."""

    known: dict[str, object] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.opened.set()

    async def fetch(self, address: str) -> bytes:
        self.asked.append(address)
        self.reached.set()
        await self.opened.wait()
        if address not in self.known:
            raise OSError("no route to host")
        return json.dumps(self.known[address]).encode()

    def publish(self, *names: str) -> None:
        self.known[f"{NAME}{WELL_KNOWN}"] = {"issuer": NAME, "jwks_uri": KEY_SET}
        self.known[KEY_SET] = {"keys": [{**PUBLIC, "kid": name, "use": "sig"} for name in names]}


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def keys(pages: Pages, clock: SteppedClock) -> IssuerKeys:
    return IssuerKeys(IssuerPages(NAME), pages.fetch, clock)


async def test_nothing_is_fetched_before_a_token_needs_it_and_then_once(keys: IssuerKeys, pages: Pages) -> None:
    pages.publish("one", "two")
    assert (keys.keys(), pages.asked) == ({}, [])
    await keys.prepare("one")
    await keys.prepare("two")
    await keys.prepare("")
    assert (set(keys.keys()), keys.trouble()) == ({"one", "two"}, "")
    assert pages.asked == [f"{NAME}{WELL_KNOWN}", KEY_SET]


async def test_a_key_set_s_own_address_needs_no_document(pages: Pages, clock: SteppedClock) -> None:
    pages.publish("one")
    keys = IssuerKeys(IssuerPages(NAME, key_set=KEY_SET), pages.fetch, clock)
    await keys.prepare("one")
    assert (set(keys.keys()), pages.asked) == ({"one"}, [KEY_SET])


async def test_the_first_token_of_a_new_key_finds_it(keys: IssuerKeys, pages: Pages) -> None:
    pages.publish("one")
    await keys.prepare("one")
    pages.publish("one", "next")
    await keys.prepare("next")
    assert set(keys.keys()) == {"one", "next"}


async def test_made_up_key_ids_do_not_make_it_ask_without_end(
    keys: IssuerKeys, pages: Pages, clock: SteppedClock
) -> None:
    pages.publish("one")
    for number in range(100):
        await keys.prepare(f"guess-{number}")
    assert pages.asked.count(KEY_SET) == ASKS_MAX
    pages.publish("next")
    clock.now += ASKS_SECONDS
    await keys.prepare("next")
    assert set(keys.keys()) == {"next"}


async def test_many_who_wait_share_one_fetch_and_one_who_leaves_ends_it_for_nobody(
    keys: IssuerKeys, pages: Pages
) -> None:
    pages.publish("one")
    pages.opened.clear()
    waiting = [asyncio.create_task(keys.prepare("one")) for _ in range(5)]
    await pages.reached.wait()
    waiting[0].cancel()
    pages.opened.set()
    await asyncio.gather(*waiting[1:])
    assert (set(keys.keys()), pages.asked.count(KEY_SET)) == ({"one"}, 1)


async def test_old_keys_are_fetched_anew_beside_the_work(keys: IssuerKeys, pages: Pages, clock: SteppedClock) -> None:
    pages.publish("one", "withdrawn")
    await keys.prepare("one")
    pages.publish("one")
    pages.opened.clear()
    clock.now += REFRESH_SECONDS + 1
    await keys.prepare("one")
    assert set(keys.keys()) == {"one", "withdrawn"}, "nobody waited"
    pages.opened.set()
    await keys.prepare("withdrawn too")
    assert set(keys.keys()) == {"one"}


async def test_an_outage_is_bridged_for_a_day_and_no_longer(
    keys: IssuerKeys, pages: Pages, clock: SteppedClock
) -> None:
    pages.publish("one")
    await keys.prepare("one")
    pages.known.clear()
    clock.now += KEPT_SECONDS_MAX
    await keys.prepare("other")
    assert (set(keys.keys()), keys.trouble()) == ({"one"}, "no route to host")
    clock.now += 1
    assert keys.keys() == {}
    pages.publish("one")
    clock.now += ASKS_SECONDS
    await keys.prepare("one")
    assert (set(keys.keys()), keys.trouble()) == ({"one"}, "")


@pytest.mark.parametrize(
    ("address", "page", "said"),
    [
        (f"{NAME}{WELL_KNOWN}", {"issuer": "https://other.example", "jwks_uri": KEY_SET}, "is of the issuer https://o"),
        (f"{NAME}{WELL_KNOWN}", {"issuer": NAME, "jwks_uri": "http://plain.example"}, "https address"),
        (f"{NAME}{WELL_KNOWN}", {"issuer": NAME}, "https address"),
        (f"{NAME}{WELL_KNOWN}", ["no document"], "object"),
        (KEY_SET, {"keys": []}, "no RSA key"),
        (KEY_SET, {"keys": [{"kty": "RSA", "n": 1}]}, "cannot be read"),
    ],
)
async def test_what_is_no_page_of_his_gives_no_keys(
    keys: IssuerKeys, pages: Pages, address: str, page: object, said: str
) -> None:
    pages.publish("one")
    pages.known[address] = page
    await keys.prepare("one")
    assert keys.keys() == {}
    assert said in keys.trouble()


async def test_a_fetch_ends_with_the_hub(keys: IssuerKeys, pages: Pages) -> None:
    pages.opened.clear()
    waiting = asyncio.create_task(keys.prepare("one"))
    await pages.reached.wait()
    await keys.close()
    await waiting
    assert keys.keys() == {}
