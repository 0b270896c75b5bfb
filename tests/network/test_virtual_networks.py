"""Address spaces and subnets: what fits, what does not, and which addresses are anybody's."""

import pytest

from isthmus.base.errors import Code, HubError
from isthmus.network.virtual_networks import (
    BIND,
    SUBNETS_MAX,
    NetworkFacts,
    Presence,
    PresenceKind,
    Subnet,
    check_apart,
    check_usable,
    checked_name,
    checked_prefix,
    first_free,
    parse_presence,
)
from network.facts import facts_of, network

LINE = Subnet("line", "10.20.1.0/29")


@pytest.mark.parametrize(
    ("prefixes", "subnets", "said"),
    [
        ((), (), "addressPrefixes"),
        (tuple(f"10.{number}.0.0/16" for number in range(17)), (), "addressPrefixes"),
        (("10.0.0.0/8", "10.20.0.0/16"), (), "overlap"),
        (("10.20.0.0/16",), (("a", "10.21.0.0/24"),), "not inside"),
        (("10.20.0.0/16",), (("a", "10.0.0.0/8"),), "not inside"),
        (("10.20.0.0/16",), (("a", "10.20.0.0/24"), ("b", "10.20.0.128/25")), "overlap"),
        (("10.20.0.0/16",), (("a", "10.20.0.0/24"), ("c", "10.20.2.0/24"), ("b", "10.20.0.0/23")), "overlap"),
        (("10.20.0.0/16",), (("a", "10.20.0.0/24"), ("A", "10.20.1.0/24")), "one name"),
        (("10.20.0.0/16",), (("a", "10.20.0.0/30"),), "too small"),
        (("fd00::/48",), (("a", "fd00::/96"),), "/64"),
        (("fd00::/48",), (("a", "10.20.0.0/24"),), "not inside"),
        (("10.0.0.0/8",), tuple((f"s{n}", f"10.0.{n}.0/24") for n in range(SUBNETS_MAX + 1)), "subnets"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    prefixes: tuple[str, ...], subnets: tuple[tuple[str, str], ...], said: str
) -> None:
    with pytest.raises(HubError, match=said) as caught:
        network("plant", *prefixes, subnets=subnets)
    assert caught.value.code is Code.ARGUMENT_INVALID


@pytest.mark.parametrize(
    ("prefixes", "subnets"),
    [
        (("10.20.0.0/16",), (("a", "10.20.0.0/24"), ("b", "10.20.1.0/29"), ("c", "10.20.255.248/29"))),
        (("10.20.0.0/16",), (("whole", "10.20.0.0/16"),)),
        (("10.20.0.0/16", "192.168.0.0/24"), (("a", "192.168.0.0/25"),)),
        (("10.20.0.0/16", "fd00::/48"), (("four", "10.20.0.0/24"), ("six", "fd00:0:0:7::/64"))),
    ],
)
def test_what_fits_is_taken(prefixes: tuple[str, ...], subnets: tuple[tuple[str, str], ...]) -> None:
    assert len(network("plant", *prefixes, subnets=subnets).subnets) == len(subnets)


@pytest.mark.parametrize("prefix", ["10.20.1.1/24", "ten", "", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "fd00::1/64"])
def test_a_block_is_written_as_one(prefix: str) -> None:
    with pytest.raises(HubError, match="addressPrefix"):
        checked_prefix(prefix, "addressPrefix")
    assert checked_prefix("FD00:0:0:0::/64", "addressPrefix") == "fd00::/64"


@pytest.mark.parametrize("name", ["", "-a", "a b", "a" * 81, "a.", "10.0.0.1", "a/b"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(HubError):
        checked_name(name, "A name")


@pytest.mark.parametrize("number", [0, 1, 2, 3, 7, 8])
def test_five_addresses_of_a_subnet_are_nobodys(number: int) -> None:
    with pytest.raises(HubError):
        check_usable(LINE, f"10.20.1.{number}")


def test_addresses_are_given_out_from_the_fifth_on_until_none_is_left() -> None:
    taken: set[str] = set()
    for number in (4, 5, 6):
        address = first_free(LINE, taken.__contains__)
        check_usable(LINE, address)
        assert address == f"10.20.1.{number}"
        taken.add(address)
    with pytest.raises(HubError) as caught:
        first_free(LINE, taken.__contains__)
    assert caught.value.code is Code.QUOTA_EXCEEDED
    assert first_free(LINE, {"10.20.1.4", "10.20.1.6"}.__contains__) == "10.20.1.5"
    assert first_free(Subnet("six", "fd00::/64"), {"fd00::4"}.__contains__) == "fd00::5"


def test_overlaps_are_told_with_both_owners() -> None:
    with pytest.raises(HubError, match=r"10\.0\.0\.0/8 of a and 10\.9\.0\.0/16 of b"):
        check_apart([("10.9.0.0/16", "b"), ("192.168.0.0/16", "c"), ("10.0.0.0/8", "a")])
    check_apart([("10.0.0.0/8", "a"), ("11.0.0.0/8", "b"), ("::/0", "c")])


def test_names_are_found_without_case_and_what_is_not_there_is_told_with_what_is() -> None:
    facts = facts_of(plant="10.20.0.0/16", office="10.30.0.0/16")
    assert facts.require("PLANT").name == "plant"
    with pytest.raises(HubError, match="known: office, plant") as caught:
        facts.require("lab")
    assert caught.value.code is Code.NOT_FOUND


def test_a_change_raises_the_version_and_no_change_does_not() -> None:
    facts = facts_of(plant="10.20.0.0/16")
    assert facts.with_network(facts.require("plant")) is facts
    again = facts.with_network(network("Plant", "10.20.0.0/16", subnets=(("a", "10.20.0.0/24"),)))
    assert [(each.name, each.version) for each in again.networks] == [("plant", 2)]
    assert NetworkFacts().network("plant") is None


@pytest.mark.parametrize(
    ("text", "presence", "place"),
    [
        ("bind", BIND, ""),
        ("netns:plant", Presence(PresenceKind.NETNS, "plant"), "netns:plant"),
        ("connector:line-1.b_2", Presence(PresenceKind.CONNECTOR, "line-1.b_2"), "connector:line-1.b_2"),
    ],
)
def test_presence_is_what_its_text_says(text: str, presence: Presence, place: str) -> None:
    assert parse_presence(text) == presence
    assert (presence.text, presence.place) == (text, place)


@pytest.mark.parametrize(
    "text",
    ["", "Bind", "bind:", "bind:plant", "netns", "netns:", "netns:.", "netns:..", "netns:a/b", "netns:a b", "moon:a",
     "netns:-a", "connector:", "netns:" + "a" * 65, "netns:a\n"],
)  # fmt: skip
def test_other_words_are_no_presence(text: str) -> None:
    with pytest.raises(HubError, match="presence is bind, netns:NAME or connector:NAME") as refused:
        parse_presence(text)
    assert refused.value.code is Code.ARGUMENT_INVALID
