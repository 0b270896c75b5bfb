"""Who should reach what, by the plan alone."""

from isthmus.lab.plan import INTERNET
from isthmus.lab.reach import Verdict, attempts, usual_address
from lab.plans import factory

PRIVATE = "10.20.1.4"
PUBLIC = "203.0.113.10"


def expected(host: str) -> dict[str, Verdict]:
    return {attempt.address: attempt.expected for attempt in attempts(factory()) if attempt.host == host}


def test_a_site_a_peer_and_the_network_itself_reach_the_endpoint() -> None:
    for host in ("press-1", "erp", "crane"):
        assert expected(host)[PRIVATE] is Verdict.OPEN
        assert expected(host)[PUBLIC] is Verdict.UNREACHABLE


def test_a_peer_of_a_peer_reaches_nothing() -> None:
    assert set(expected("till").values()) == {Verdict.UNREACHABLE}


def test_the_intruder_meets_a_closed_public_side() -> None:
    met = expected("intruder")
    assert met.pop(PUBLIC) is Verdict.REFUSED
    assert set(met.values()) == {Verdict.UNREACHABLE}


def test_the_link_door_is_for_connectors_at_the_public_address_alone() -> None:
    link = {(attempt.host, attempt.address): attempt.link for attempt in attempts(factory())}
    assert link["intruder", PUBLIC] is Verdict.REFUSED
    assert link["crane", PRIVATE] is Verdict.CLOSED
    assert link["crane", PUBLIC] is Verdict.UNREACHABLE


def test_the_usual_name_means_the_private_address_where_it_is_reached() -> None:
    plan = factory()
    for place, address in (("plant", PRIVATE), ("office", PRIVATE), ("branch", PUBLIC), (INTERNET, PUBLIC)):
        assert usual_address(plan, place, "factory") == address


def test_every_host_tries_its_hub_by_name_once() -> None:
    plan = factory()
    assert [attempt.host for attempt in attempts(plan) if attempt.by_name] == list(plan.hosts)
