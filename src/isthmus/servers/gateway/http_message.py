"""Requests and replies of the service API, free of the HTTP library."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from isthmus.base.errors import NOT_JSON, Code, HubError
from isthmus.base.etags import parse_if_match
from isthmus.base.ids import DeviceRef
from isthmus.resources.hub import Hub

JSON_TYPE = "application/json; charset=utf-8"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Change:
    """What an operation made of something, for the journal: JSON values, None for what was not or is not there."""

    before: object
    after: object


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; no body and no content type with 204. `change` is what the operation changed, where that is told.

    `operations` is how many of its kind it was, for the hub's rates: in bulk one for each item.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    change: Change | None = None
    operations: int = 1


@dataclass(frozen=True, slots=True)
class Call:
    """A request to a hub, authenticated and permitted; `ref` names what its path names, with an empty id for none.

    Names of `headers` are in lower case. `name` is that of something else than a device: a job's, a
    lock token, or a command; `component` is the part of a device's model that a command is of.
    """

    hub: Hub
    ref: DeviceRef
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    name: str = ""
    component: str = ""

    @property
    def if_match(self) -> str | None:
        return parse_if_match(self.headers.get("if-match"))

    @property
    def api_version(self) -> str:
        return self.query.get("api-version", "")

    def json(self) -> object:
        """The body's JSON; raises `FORMAT_ERROR`."""
        try:
            return _decode(self.body)
        except NOT_JSON as error:
            raise HubError(Code.FORMAT_ERROR, "The body is not valid JSON") from error


def json_reply(
    value: object,
    *,
    status: int = 200,
    etag: str | None = None,
    headers: Mapping[str, str] | None = None,
    change: Change | None = None,
) -> Reply:
    """JSON; an etag stands in quotes in its header."""
    quoted = {} if etag is None else {"ETag": f'"{etag}"'}
    return Reply(status, _encode(value), {"Content-Type": JSON_TYPE, **quoted, **(headers or {})}, change)
