"""The fuzz target of the PROXY protocol's header.

Invariant: whatever bytes a connection begins with, and however they are cut, the reader gives the same header and the
same bytes behind it, or refuses for the same reason, or waits; it holds less than the longest header, and a header it
took is taken again from its encoding.

The committed corpus is replayed by `test_targets.py`; a finding becomes one more file of it. Run with any
fuzzer that calls a function with bytes (for example `atheris.Setup(sys.argv, check)`).
"""

from isthmus.wire.proxy_protocol import HEADER_BYTES_MAX, HeaderReader, ProxyHeader, ProxyHeaderError, encode_header


def check(data: bytes) -> None:
    """Raises AssertionError when the invariant does not hold for `data`."""
    whole = run([data])
    assert run([data[position : position + 1] for position in range(len(data))]) == whole
    middle = len(data) // 2
    assert run([data[:middle], data[middle:]]) == whole
    header = whole[0]
    if header is not None:
        again = HeaderReader().receive(encode_header(header))
        assert again == header
        assert header.local or header.link_id is None or 0 <= header.link_id < 2**32


def run(pieces: list[bytes]) -> tuple[ProxyHeader | None, bytes, str]:
    """The header, what is behind it, or why there is none."""
    reader = HeaderReader()
    for position, piece in enumerate(pieces):
        try:
            header = reader.receive(piece)
        except ProxyHeaderError as error:
            return None, b"", str(error)
        assert reader.held < HEADER_BYTES_MAX
        if header is not None:
            return header, reader.rest + b"".join(pieces[position + 1 :]), ""
    return None, b"", ""
