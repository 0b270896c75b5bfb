"""A management call, free of any HTTP library, so that a stopped server's folder can answer it as well."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from isthmus.base.errors import NOT_JSON, Code, HubError
from isthmus.base.etags import Condition
from isthmus.network.door import LOCAL_DOOR


@dataclass(frozen=True, slots=True)
class Call:
    """One call: `path` holds decoded segments, `who` the caller as the journal names him.

    `door` is the label of the door he came by, `address` his own, empty on the local owner's socket.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    if_match: str | None = None
    who: str = ""
    door: str = LOCAL_DOOR.label
    address: str = ""
    if_none_match: str | None = None

    @property
    def condition(self) -> Condition:
        """What the call asks of what is there."""
        return Condition(self.if_match, self.if_none_match)

    def json(self) -> dict[str, object]:
        """The body as a JSON object; raises HubError ArgumentInvalid."""
        try:
            return msgspec.json.decode(self.body or b"{}", type=dict[str, object])
        except NOT_JSON as error:
            raise HubError(Code.ARGUMENT_INVALID, f"The body is not a JSON object: {error}") from error


@dataclass(frozen=True, slots=True)
class Reply:
    """A status and a JSON value; None for an empty body."""

    status: int = 200
    value: object = None

    @property
    def body(self) -> bytes:
        """The bytes of the answer."""
        return b"" if self.value is None else msgspec.json.encode(self.value)


def call_of(
    method: str,
    target: str,
    *,
    body: bytes = b"",
    if_match: str | None = None,
    if_none_match: str | None = None,
    who: str = "",
) -> Call:
    """The call of an HTTP request line and its body; each segment is percent-decoded exactly once."""
    path, query = split_target(target)
    return Call(method, path, query, body, if_match, who, if_none_match=if_none_match)


def split_target(target: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """Decoded segments and parameters of a request target; raises HubError GenericBadRequest for what is none."""
    try:
        target.encode()  # the HTTP library makes surrogates of bytes that are no text
        parts = urlsplit(target)
    except ValueError as error:
        raise HubError(Code.GENERIC_BAD_REQUEST, "The request target cannot be read") from error
    path = tuple(unquote(segment) for segment in parts.path.strip("/").split("/"))
    return path, dict(parse_qsl(parts.query))


def refused(error: HubError) -> Reply:
    """A refusal in ARM's error shape."""
    status = 409 if error.code is Code.INVALID_TRANSITION else error.code.http_status
    return Reply(status, {"error": {"code": error.code.wire_name, "message": error.message}})
