"""Replays the committed corpus of every target, and fuzzes each: a little always, long by `make test-long`.

How long says the environment variable FUZZ_INPUTS; a release is fuzzed with ten million. What a run finds stands in its
output with the input, which becomes a file of the corpus when it is mended.
"""

import os
from pathlib import Path

import pytest

from fuzz.amqp_target import run
from fuzz.campaign import Campaign, Slice, run_slice, say, tried
from fuzz.target import Target
from fuzz.targets import TARGETS, target

SHORT_INPUTS = 300
"""Of a target, the same every time; all of them take about a quarter of a minute."""

LONG_INPUTS = int(os.environ.get("FUZZ_INPUTS", "200000"))
"""Of all targets together."""


@pytest.mark.parametrize("fuzzed", TARGETS, ids=lambda fuzzed: fuzzed.name)
def test_corpus_keeps_the_invariant(fuzzed: Target) -> None:
    with fuzzed.opened() as check:
        found = [tried(fuzzed.name, check, 0, path.read_bytes()) for path in fuzzed.corpus()]
    assert not [finding.told for finding in found if finding is not None]


@pytest.mark.parametrize("fuzzed", TARGETS, ids=lambda fuzzed: fuzzed.name)
def test_what_mutation_makes_of_it_keeps_the_invariant(fuzzed: Target) -> None:
    done = run_slice(Slice(fuzzed.name, 0, SHORT_INPUTS))
    assert not [(finding.number, finding.told) for finding in done.findings]


@pytest.mark.long
def test_nothing_is_found_for_long(capsys: pytest.CaptureFixture[str]) -> None:
    campaign = Campaign(TARGETS, LONG_INPUTS, first=SHORT_INPUTS)
    with capsys.disabled():
        campaign.run(workers=os.cpu_count() or 1)
        say(campaign.table())
    assert not {finding.kind for finding in campaign.findings}
    assert sum(campaign.made.values()) == LONG_INPUTS


@pytest.mark.parametrize("path", target("amqp").corpus(), ids=lambda path: path.name)
def test_recorded_clients_of_amqp_are_understood(path: Path) -> None:
    told, _ = run([path.read_bytes()])
    assert not [line for line in told if "error=Error" in line]
    assert any(line.startswith("LinkDetached") for line in told), "understood to the end"
