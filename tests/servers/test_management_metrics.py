"""Metrics: what the doors count, what the house is asked, and that each has its line in the reference."""

from prometheus_client.parser import text_string_to_metric_families

from isthmus.servers.management.metrics import Metrics, Reading


def families(metrics: Metrics) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        family.name: {
            tuple(sample.labels.values()): sample.value
            for sample in family.samples
            if not sample.name.endswith("_created")
        }
        for family in text_string_to_metric_families(metrics.text().decode())
    }


def test_admissions_and_refusals_are_counted_by_their_labels() -> None:
    metrics = Metrics()
    metrics.admitted("mqtt")
    metrics.admitted("mqtt")
    metrics.refused("amqp", "auth.signature")

    found = families(metrics)

    assert found["isthmus_admitted"] == {("mqtt",): 2.0}
    assert found["isthmus_refusals"] == {("amqp", "auth.signature"): 1.0}


def test_the_house_is_asked_at_each_scrape() -> None:
    levels = iter((3, 5))
    metrics = Metrics()
    metrics.readings = lambda: [
        Reading("sessions", "Sessions", next(levels)),
        Reading("records", "Records", 7, total=True),
    ]

    first, second = families(metrics), families(metrics)

    assert (first["isthmus_sessions"], second["isthmus_sessions"]) == ({(): 3.0}, {(): 5.0})
    assert first["isthmus_records"] == {(): 7.0}


def test_two_servers_in_one_process_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.admitted("mqtt")

    assert families(other)["isthmus_admitted"] == {}
