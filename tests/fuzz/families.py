"""Inputs that grow, in the ways that decoders are slow for: depth, many small things, one long thing, near matches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Growing:
    """Something repeated between what comes before and behind it."""

    before: bytes
    pump: bytes
    behind: bytes = b""

    def of_bytes(self, size: int) -> bytes:
        """With about so many bytes of repetitions, at least one."""
        return self.before + self.pump * max(1, size // len(self.pump)) + self.behind


@dataclass(frozen=True, slots=True)
class Family:
    """Inputs of a target by their size."""

    target: str
    name: str
    make: Callable[[int], bytes]


def _mqtt() -> Iterator[tuple[str, Growing]]:
    connect = b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02d1"
    yield "pings", Growing(connect, b"\xc0\x00")
    yield "messages", Growing(connect, b"\x32\x06\x00\x01t\x00\x01m")
    yield "acknowledged-only", Growing(connect, b"\x40\x02\x00\x01")
    yield "subscriptions", Growing(connect, b"\x82\x06\x00\x01\x00\x01t\x01")
    yield "connects-first", Growing(b"", connect)
    yield "length-that-never-ends", Growing(connect + b"\x30", b"\xff")


def _amqp() -> Iterator[tuple[str, Growing]]:
    opened = b"AMQP\x00\x01\x00\x00\x00\x00\x00\x10\x02\x00\x00\x00\x00\x53\x10\xc0\x03\x01\xa1\x00"
    begun = opened + b"\x00\x00\x00\x15\x02\x00\x00\x00\x00\x53\x11\xc0\x08\x04\x40\x43\x52\x10\x52\x10"
    yield "empty-frames", Growing(opened, b"\x00\x00\x00\x08\x02\x00\x00\x00")
    yield "headers", Growing(b"", b"AMQP\x00\x01\x00\x00")
    yield "sessions", Growing(opened, b"\x00\x00\x00\x14\x02\x00\x00\x00\x00\x53\x11\xc0\x07\x04\x40\x43\x52\x10\x43")
    flow = b"\x00\x00\x00\x18\x02\x00\x00\x00\x00\x53\x13\xc0\x0b\x08\x43\x52\x10\x43\x52\x10\x40\x40\x40\x40"
    yield "flows", Growing(begun, flow)
    yield "frame-of-lists", Growing(opened + b"\x00\x00\x20\x00\x02\x00\x00\x00\x00\x53\x10", b"\xc0\xff\x01")
    yield (
        "frame-of-nulls",
        Growing(opened + b"\x00\x00\x20\x00\x02\x00\x00\x00\x00\x53\x10\xd0\0\0\x1f\0\0\0\x1f\0", b"@"),
    )


def _wires() -> Iterator[tuple[str, str, Growing]]:
    """Frames and packets: target, name, and what grows."""
    for name, growing in _mqtt():
        yield "mqtt", name, growing
    for name, growing in _mqtt():
        yield "pump-mqtt", name, growing
    for name, growing in _amqp():
        yield "amqp", name, growing
    yield "websocket", "pings", Growing(b"", b"\x89\x80\0\0\0\0")
    yield "websocket", "frames-of-a-byte", Growing(b"", b"\x82\x81\0\0\0\0a")
    yield "websocket", "fragments", Growing(b"\x02\x80\0\0\0\0", b"\x00\x80\0\0\0\0")
    yield "websocket", "one-frame", Growing(b"\x82\xff\0\0\0\0\0\0\x80\x00abcd", b"a")
    yield "proxy_protocol", "tlvs", Growing(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\xf0" + bytes(12), b"\xee\0\0")
    yield "link", "pings", Growing(b"", b'\x00\x00\x00\x0f{"type":"ping"}')
    yield "link", "one-frame", Growing(b'\x00\x00\x40\x00{"type":"hello","name":"', b"a")
    yield "link", "depth", Growing(b'\x00\x00\x40\x00{"type":', b'{"a":')
    yield "log", "magic-again-and-again", Growing(b"", b"ISTH")
    yield "log", "zeros", Growing(b"", b"\0")
    dns = b"\x65\x9f\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    yield "dns", "labels", Growing(dns, b"\x01a", b"\0\0\1\0\1")
    yield "dns", "pointers", Growing(dns, b"\xc0\x0c", b"\0\1\0\1")
    yield "dns", "questions", Growing(b"\x65\x9f\x01\x00\xff\xff\0\0\0\0\0\0", b"\xc0\x0c\0\1\0\1")
    yield "dns", "options", Growing(dns[:11] + b"\x01\x01a\0\0\1\0\1\0\0\x29\x04\xd0\0\0\0\0\xff\xff", b"\0\x0a\0\0")
    yield "tls", "records", Growing(b"", b"\x16\x03\x01\x00\x01\x01")
    yield "tls", "warnings", Growing(b"", b"\x15\x03\x01\x00\x02\x01\x00")


def _topics() -> Iterator[tuple[str, str, Growing]]:
    """What MQTT and AMQP name things by."""
    yield "mqtt-user-name", "parameters", Growing(b"hub.isthmus.test/dev1/?api-version=2021-04-12", b"&a=b")
    yield "mqtt-user-name", "equal-parameters", Growing(b"hub.isthmus.test/dev1/?", b"api-version=2021-04-12&")
    yield "mqtt-user-name", "slashes", Growing(b"hub.isthmus.test", b"/")
    yield "mqtt-user-name", "escapes", Growing(b"hub.isthmus.test/dev1/?a=", b"%25")
    yield "mqtt-topic", "properties", Growing(b"devices/dev1/messages/events/", b"a=b&")
    yield "mqtt-topic", "slashes", Growing(b"devices/dev1/messages/events", b"/")
    yield "mqtt-topic", "wildcards", Growing(b"", b"+/", b"#")
    yield "mqtt-topic", "method-parameters", Growing(b"$iothub/methods/res/200/?$rid=1", b"&$rid=1")
    yield "mqtt-topic", "twin-parameters", Growing(b"$iothub/twin/PATCH/properties/reported/?$rid=1", b"&a=1")
    yield "mqtt-topic", "long-version", Growing(b"$iothub/twin/PATCH/properties/reported/?$rid=1&$version=", b"1")
    yield "property-bag", "properties", Growing(b"", b"a=b&")
    yield "property-bag", "escapes", Growing(b"a=", b"%25")
    yield "property-bag", "broken-escapes", Growing(b"a=", b"%")
    yield "property-bag", "signs", Growing(b"a", b"=")
    yield "property-bag", "empty", Growing(b"", b"&")
    yield "amqp-address", "slashes", Growing(b"amqps://hub.isthmus.test", b"/")
    yield "amqp-address", "escapes", Growing(b"/devices/", b"%2f")
    yield "amqp-address", "selector-of-spaces", Growing(b"amqp.annotation.x-opt-offset", b" ", b"> '1")
    yield "amqp-address", "selector-of-spaces-and-quotes", Growing(b"amqp.annotation.x-opt-offset > ", b" ", b"'1'2")
    yield "amqp-address", "selector-of-a-long-value", Growing(b"amqp.annotation.x-opt-offset > '", b" 1", b"'!")


def _credentials() -> Iterator[tuple[str, str, Growing]]:
    """What proves somebody."""
    yield "sas-token", "parameters", Growing(b"SharedAccessSignature sr=a&sig=AA%3d&se=1", b"&a=1")
    yield "sas-token", "equal-parameters", Growing(b"SharedAccessSignature ", b"sr=a&")
    yield "sas-token", "path", Growing(b"SharedAccessSignature sig=AA%3d&se=1&sr=", b"%2f")
    yield "sas-token", "encoded-again", Growing(b"SharedAccessSignature sig=AA%3d&se=1&sr=a%", b"25", b"2f")
    yield "sas-token", "schemes", Growing(b"SharedAccessSignature sig=AA%3d&se=1&sr=", b"sb%3a%2f%2f")
    yield "sas-token", "expiry", Growing(b"SharedAccessSignature sr=a&sig=AA%3d&se=", b"9")
    yield "sasl-plain", "zeros", Growing(b"", b"\0")
    yield "sasl-plain", "ats", Growing(b"\0dev1@sas.hub", b"@", b"\0x")
    yield "json-web-token", "dots", Growing(b"Bearer eyJhbGciOiJSUzI1NiJ9", b".")
    yield "json-web-token", "depth", Growing(b"Bearer eyJhbGciOiJSUzI1NiJ9.", b"eyJh", b".AAAA")
    yield "storage-sas", "parameters", Growing(b"sv=2021-08-06&sig=AA", b"&a=1")
    yield "storage-sas", "headers", Growing(b"sv=2021-08-06&sig=AA&srh=", b"a,")
    yield "storage-sas", "permissions", Growing(b"sv=2021-08-06&sig=AA&sr=b&sp=", b"r")
    yield "shared-key", "parameters", Growing(b"SharedKey account:AAAA\n\n", b"a=1&")
    yield "shared-key", "spaces", Growing(b"SharedKey account:AAAA\n\na=1\n", b" ")
    yield "connection-string", "members", Growing(b"AccountName=a", b";A=b")
    yield "connection-string", "semicolons", Growing(b"AccountName=a", b";")


def _languages() -> Iterator[tuple[str, str, Growing]]:
    """Queries and conditions."""
    yield "query", "columns", Growing(b"SELECT a", b",a", b" FROM devices")
    yield "query", "terms", Growing(b"SELECT * FROM devices WHERE tags.a>1", b" OR tags.a>1")
    yield "query", "sums", Growing(b"SELECT * FROM devices WHERE tags.a>1", b"+1")
    yield "query", "differences", Growing(b"SELECT * FROM devices WHERE tags.a!=1", b" AND tags.a!=1")
    yield "query", "members", Growing(b"SELECT * FROM devices WHERE tags.a IN [1", b",1", b"]")
    yield "query", "parentheses", Growing(b"SELECT * FROM devices WHERE ", b"(")
    yield "query", "negations", Growing(b"SELECT * FROM devices WHERE ", b"NOT ")
    yield "query", "path", Growing(b"SELECT * FROM devices WHERE tags", b".a", b"=1")
    yield "query", "collection", Growing(b"SELECT * FROM devices", b".a")
    yield "query", "open-comments", Growing(b"SELECT * FROM devices WHERE ", b"/* ")
    yield "query", "open-names", Growing(b"SELECT * FROM devices WHERE ", b"[[ ")
    yield "query", "quotes", Growing(b"SELECT * FROM devices WHERE a = '", b"''")
    yield "query", "escapes", Growing(b"SELECT * FROM devices WHERE a = '", b"\\'")
    yield "query", "digits", Growing(b"SELECT * FROM devices WHERE a = 1", b"1")
    yield "query", "hyphens", Growing(b"SELECT * FROM devices WHERE a", b"-a", b"=1")
    yield "condition", "terms", Growing(b"a='1'", b" OR a='1'")
    yield "condition", "sums", Growing(b"$body.a", b" + $body.a", b" > 1")
    yield "condition", "parentheses", Growing(b"", b"(")
    yield "condition", "functions", Growing(b"", b"lower(", b"a")
    yield "condition", "arguments", Growing(b"concat(a", b",a", b") = 'x'")
    yield "condition", "open-comments", Growing(b"a = '1' ", b"/* ")
    yield "condition", "closed-comments", Growing(b"a = '1' ", b"/**/")
    yield "condition", "path", Growing(b"$body.a", b".a", b" = 1")
    yield "condition", "indices", Growing(b"$body.a", b"[1]", b" = 1")
    yield "condition", "escapes", Growing(b"a = '", b"\\'", b"'")
    yield "condition", "minuses", Growing(b"a = ", b"- ", b"1")
    yield "condition", "digits", Growing(b"$body.a = 1", b"1")


def _bodies() -> Iterator[tuple[str, str, Growing]]:
    """JSON."""
    for target, before, behind in JSON_PLACES:
        for name, value in JSON_VALUES.items():
            yield target, name, Growing(before + value.before, value.pump, value.behind + behind)
    yield "routing", "routes", Growing(b'{"routes":[' + ROUTE, b"," + ROUTE, b"]}")
    yield "routing", "enrichments", Growing(b'{"enrichments":[' + ENRICHMENT, b"," + ENRICHMENT, b"]}")
    yield "hosted-events", "events", Growing(b'[{"Body":"a"}', b',{"Body":"a"}', b"]")
    yield "device-message", "events", Growing(b'[{"body":"YQ=="}', b',{"body":"YQ=="}', b"]")
    yield "device-message", "headers", Growing(b"", b"iothub-app-a: 1\n", b"\n{}")


def _documents() -> Iterator[tuple[str, str, Growing]]:
    """XML, TOML, and what storage reads."""
    yield "line-cutter", "empty-lines", Growing(b"", b"\n")
    yield "line-cutter", "one-line", Growing(b"", b"a")
    yield "file", "long-name", Growing(b'{"blobName":"', b"a/", b'"}')
    yield "blob-document", "blocks", Growing(b"<BlockList>", b"<Latest>MDAwMQ==</Latest>", b"</BlockList>")
    yield "blob-document", "depth", Growing(b"", b"<a>")
    yield "blob-document", "attributes", Growing(b"<a", b' b="1"', b"/>")
    yield "blob-document", "entities", Growing(b"<BlockList><Latest>", b"&amp;", b"</Latest></BlockList>")
    yield "blob-target", "slashes", Growing(b"/box", b"/a")
    yield "blob-target", "dots", Growing(b"/box/a", b"/..")
    yield "blob-target", "escapes", Growing(b"/box/", b"%2f")
    yield "blob-target", "parameters", Growing(b"/box?comp=list", b"&include=a")
    yield "blob-target", "includes", Growing(b"/box?restype=container&comp=list&include=", b"a,")
    yield "blob-headers", "metadata", Growing(b"", b"x-ms-meta-a:1\n")
    yield "blob-headers", "ranges", Growing(b"range:bytes=", b"0-1,")
    yield "blob-headers", "etags", Growing(b"if-match:", b'"1",')
    atom = b'<entry xmlns="http://www.w3.org/2005/Atom"><content type="application/xml">'
    yield "atom", "depth", Growing(atom, b"<a>")
    yield (
        "atom",
        "members",
        Growing(atom + b"<QueueDescription>", b"<A>1</A>", b"</QueueDescription></content></entry>"),
    )
    yield "atom", "name-spaces", Growing(atom + b"<a", b' xmlns:b="c"', b"/></content></entry>")
    yield "files", "tables", Growing(b"", b"[[device]]\nid='a'\n")
    yield "files", "members", Growing(b"", b"a=1\n")
    yield "files", "dotted-keys", Growing(b"", b"a.", b"a=1\n")
    yield "files", "dotted-and-quoted-keys", Growing(b"", b'"a".', b"a=1\n")
    yield "files", "depth", Growing(b"a=", b"[")


def _requests() -> Iterator[tuple[str, str, Growing]]:
    """Requests with their heads, and bodies in chunks."""
    yield (
        "http-hub",
        "headers",
        Growing(b"GET /devices/dev1 HTTP/1.1\r\nHost: hub.isthmus.test\r\n", b"A:b\r\n", b"\r\n"),
    )
    yield "http-hub", "chunks", Growing(CHUNKED, b"1\r\na\r\n", b"0\r\n\r\n")
    yield "http-hub", "parameters", Growing(b"GET /devices/dev1?api-version=2021-04-12", b"&a=b", HEADERS)
    yield "http-hub", "long-path", Growing(b"GET /", b"a", HEADERS)
    yield "http-hub", "slashes", Growing(b"GET /devices", b"/", HEADERS)
    yield "http-hub", "escapes", Growing(b"GET /devices/", b"%25", HEADERS)
    yield (
        "http-blob",
        "slashes",
        Growing(b"GET /box", b"/a", b" HTTP/1.1\r\nHost: plantstore.blob.isthmus.test\r\n\r\n"),
    )
    yield "http-namespaces", "slashes", Growing(b"GET /q", b"/a", OF_NAMESPACE)
    yield "http-namespaces", "segments", Growing(b"GET /q/Subscriptions", b"/s/Subscriptions", OF_NAMESPACE)
    yield "management", "filter", Growing(ASSIGNMENTS + b"?$filter=atScope()", b"%20and%20atScope()", b"\r\n\r\n")
    yield "management", "filter-of-spaces", Growing(ASSIGNMENTS + b"?$filter=a", b"%20", b"b\r\n\r\n")
    yield "management", "slashes", Growing(b"GET /subscriptions", b"/a", b"\r\n\r\n")


CHUNKED = (
    b"POST /devices/dev1/messages/events?api-version=2021-04-12 HTTP/1.1\r\nHost: hub.isthmus.test\r\n"
    b"Authorization: @device@\r\nTransfer-Encoding: chunked\r\n\r\n"
)
HEADERS = b" HTTP/1.1\r\nHost: hub.isthmus.test\r\nAuthorization: @policy@\r\n\r\n"
OF_NAMESPACE = b" HTTP/1.1\r\nHost: busspace.servicebus.isthmus.test\r\nAuthorization: @bus@\r\n\r\n"
ASSIGNMENTS = b"GET /providers/Microsoft.Authorization/roleAssignments"
ROUTE = b'{"name":"r","source":"DeviceMessages","condition":"true","endpointNames":["events"],"isEnabled":true}'
ENRICHMENT = b'{"key":"k","value":"v","endpointNames":["events"]}'

JSON_PLACES: tuple[tuple[str, bytes, bytes], ...] = (
    ("configuration", b'{"id":"c1","content":{"deviceContent":{"properties.desired":', b"}}}"),
    ("identity", b'{"deviceId":"dev1","statusReason":', b"}"),
    ("twin", b'{"tags":', b"}"),
    ("twin", b'{"properties":{"desired":{"a":', b"}}}"),
    ("method", b'{"methodName":"reboot","payload":', b"}"),
    ("job", b'{"jobId":"j","type":"scheduleUpdateTwin","queryCondition":"*","updateTwin":{"tags":', b"}}"),
    ("import-line", b'{"id":"dev1","importMode":"create","tags":', b"}"),
    ("routing", b'{"routes":', b"}"),
    ("hosted-events", b'[{"Body":"a","UserProperties":', b"}]"),
    ("device-message", b'[{"body":"YQ==","properties":', b"}]"),
)
"""Where a body may have a value of its sender's."""

JSON_VALUES: dict[str, Growing] = {
    "depth": Growing(b"", b'{"a":', b""),
    "lists": Growing(b"", b"[", b""),
    "members": Growing(b'{"x":1', b',"x":1', b"}"),
    "items": Growing(b'{"x":[1', b",1", b"]}"),
    "empty-objects": Growing(b'{"x":[{}', b",{}", b"]}"),
    "long-text": Growing(b'{"x":"', b"a", b'"}'),
    "escapes": Growing(b'{"x":"', b"\\u0041", b'"}'),
    "long-key": Growing(b'{"', b"a", b'":1}'),
    "digits": Growing(b'{"x":1', b"1", b"}"),
}


def _numbered(count: int, item: str, join: str) -> bytes:
    """Items that differ by their number."""
    return join.join(item.replace("#", str(number)) for number in range(count)).encode()


@dataclass(frozen=True, slots=True)
class Numbered:
    """Items with numbers of their own between what comes before and behind them: tables grow, not only text."""

    before: bytes
    item: str
    join: str
    behind: bytes = b""

    def of_bytes(self, size: int) -> bytes:
        """With about so many bytes of items, at least one."""
        count = max(1, size // (len(self.item) + len(self.join)))
        return self.before + _numbered(count, self.item, self.join) + self.behind


NUMBERED: tuple[tuple[str, str, Numbered], ...] = (
    ("property-bag", "distinct-properties", Numbered(b"", "a#=b", "&")),
    ("mqtt-user-name", "distinct-parameters", Numbered(b"hub.isthmus.test/dev1/?", "a#=b", "&")),
    ("sas-token", "distinct-parameters", Numbered(b"SharedAccessSignature sr=a&sig=AA%3d&se=1&", "a#=b", "&")),
    ("twin", "distinct-members", Numbered(b'{"tags":{', '"a#":1', ",", b"}}")),
    ("twin", "distinct-objects", Numbered(b'{"properties":{"desired":{', '"a#":{"b":1}', ",", b"}}}")),
    ("twin", "distinct-deletions", Numbered(b'{"properties":{"desired":{', '"a#":null', ",", b"}}}")),
    ("import-line", "distinct-members", Numbered(b'{"id":"dev1","importMode":"create","tags":{', '"a#":1', ",", b"}}")),
    ("query", "distinct-columns", Numbered(b"SELECT ", "tags.a# AS b#", ",", b" FROM devices")),
    ("query", "distinct-groups", Numbered(b"SELECT COUNT() FROM devices GROUP BY ", "tags.a#", ",")),
    ("query", "distinct-members", Numbered(b"SELECT * FROM devices WHERE deviceId IN [", "'d#'", ",", b"]")),
    ("routing", "distinct-routes", Numbered(b'{"routes":[', ROUTE.decode().replace('"r"', '"r#"'), ",", b"]}")),
    ("device-message", "distinct-headers", Numbered(b"", "iothub-app-a#: 1", "\n", b"\n\n{}")),
    ("hosted-events", "distinct-properties", Numbered(b'[{"Body":"a","UserProperties":{', '"a#":1', ",", b"}}]")),
    ("blob-document", "distinct-policies", Numbered(
        b"<SignedIdentifiers>", "<SignedIdentifier><Id>#</Id></SignedIdentifier>", "", b"</SignedIdentifiers>"
    )),
    ("blob-headers", "distinct-metadata", Numbered(b"", "x-ms-meta-a#:1", "\n")),
    ("storage-sas", "distinct-parameters", Numbered(b"sv=2021-08-06&sig=AA&", "a#=1", "&")),
    ("files", "distinct-devices", Numbered(b"", "[[device]]\nid='d#'\n", "\n")),
)  # fmt: skip

MADE = (_wires, _topics, _credentials, _languages, _bodies, _documents, _requests)

FAMILIES: tuple[Family, ...] = (
    *(Family(target, name, growing.of_bytes) for made in MADE for target, name, growing in made()),
    *(Family(target, name, numbered.of_bytes) for target, name, numbered in NUMBERED),
)
"""All families that somebody thought of, in one order."""
