"""The fuzz target of DNS queries.

Invariant: whatever bytes come in, answering never raises; what is answered can be parsed, has the query's id, is a
response, and fits into the client's size; what is handed on to others can be asked of them.

The committed corpus is replayed by `test_targets.py`; a finding becomes one more file of it. Run with any fuzzer
that calls a function with bytes (for example `atheris.Setup(sys.argv, check)`).
"""

import dns.flags
import dns.message

from isthmus.names.answer import UDP_BYTES_MAX, Ask, answer, is_answer_to, question_for
from isthmus.names.zone import Names, RecordSet, RecordType, View, Zone

NAMES = Names(
    View(
        (
            Zone("isthmus.test", (RecordSet("hub.isthmus.test", RecordType.CNAME, ("hub.plant.test",)),), open=True),
            Zone(
                "plant.test",
                (
                    RecordSet("hub.plant.test", RecordType.A, ("10.1.0.5",)),
                    RecordSet("*.plant.test", RecordType.TXT, ("x" * 600, "y" * 600)),
                ),
            ),
        )
    )
)


def check(data: bytes) -> None:
    """Raises AssertionError when the invariant does not hold for `data`."""
    for over_tcp in (False, True):
        for forwards in (False, True):
            said = answer(data, NAMES, over_tcp=over_tcp, forwards=forwards)
            if isinstance(said, Ask):
                query = question_for(said, 4711)
                assert dns.message.from_wire(query.to_wire()).question == query.question
            elif said is not None:
                message = dns.message.from_wire(said)
                assert message.flags & dns.flags.QR
                assert message.id == int.from_bytes(data[:2], "big")
                assert over_tcp or len(said) <= UDP_BYTES_MAX
    is_answer_to(dns.message.make_query("hub.isthmus.test", "A", id=int.from_bytes(data[:2], "big")), data)
