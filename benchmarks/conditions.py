"""Conditions of routes: how many are judged a second, on one core, with the message's own work shared as in the hub.

    conditions.py [--seconds 2]

Each round judges one message by the ten conditions of the routed peer (`peers.OwnRouted`), half of them on the body,
which is parsed once for all of them; the figures are for single conditions.
"""

import argparse
import time

from isthmus.query.conditions.compiler import compile_condition
from isthmus.routing.subject import RoutedMessage
from isthmus.telemetry.message import Envelope
from peers import OwnRouted

PAYLOAD = b'{"stamp":"0123456789abcdef","Weather":{"Temperature":50,"IsEnabled":true},"pad":"%s"}' % (b"x" * 170)
ENVELOPE = Envelope(
    "dev1", system={"content-type": "application/json", "content-encoding": "utf-8"}, properties={"level": "3"}
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    seconds = parser.parse_args().seconds
    for label, texts in (
        ("properties", OwnRouted.conditions[:5]),
        ("bodies", OwnRouted.conditions[5:]),
        ("both", OwnRouted.conditions),
    ):
        rate = _rate(texts, seconds)
        print(f"{label:12} {len(texts):2} conditions a message  {rate:>12,.0f} conditions/s")


def _rate(texts: tuple[str, ...], seconds: float) -> float:
    conditions = [compile_condition(text) for text in texts]
    judged, begun = 0, time.process_time()
    while (spent := time.process_time() - begun) < seconds:
        for _ in range(100):
            message = RoutedMessage(ENVELOPE, PAYLOAD, 1_700_000_000_000)
            for condition in conditions:
                condition.holds(message)
        judged += 100 * len(conditions)
    return judged / spent


if __name__ == "__main__":
    main()
