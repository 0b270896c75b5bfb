"""The operations over HTTP, of services and devices: which path and verb is what, by which right, and what is built.

Literals of a path are compared without case, ids are percent-decoded exactly once, a trailing slash does not matter,
and a literal wins over an id in the same place (IoT Hub REST reference; clients differ in all of these).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote_to_bytes

from isthmus.access.principal import Right
from isthmus.base.errors import Code, HubError

API_VERSIONS = frozenset(
    (
        "2016-02-03", "2016-11-14", "2017-06-30", "2017-08-21-preview", "2017-11-08-preview", "2018-01-16",
        "2018-03-01-preview", "2018-04-01", "2018-06-30", "2018-08-30-preview", "2019-03-30", "2019-07-01-preview",
        "2019-10-01", "2020-03-01", "2020-03-13", "2020-05-31-preview", "2020-09-30", "2021-04-12", "2024-03-31",
    )
)  # fmt: skip
"""Versions that official clients send."""

DATA_ACTIONS = "Microsoft.Devices/IotHubs/"
"""Begins every data action of a hub."""


class Action(Enum):
    """What an operation does; NOT_BUILT answers that it is not built.

    A device proves itself in requests of `DEVICE_SIDE`; behind a WEBSOCKET everybody does inside it instead.
    """

    LIST_DEVICES = auto()
    GET_IDENTITY = auto()
    PUT_IDENTITY = auto()
    DELETE_IDENTITY = auto()
    LIST_MODULES = auto()
    GET_TWIN = auto()
    PATCH_TWIN = auto()
    PUT_TWIN = auto()
    INVOKE_METHOD = auto()
    REGISTRY_STATISTICS = auto()
    SERVICE_STATISTICS = auto()
    QUERY = auto()
    PURGE = auto()
    BULK = auto()
    RENEW_KEYS = auto()
    RECEIVE_FEEDBACK = auto()
    COMPLETE_FEEDBACK = auto()
    ABANDON_FEEDBACK = auto()
    RECEIVE_FILE_NOTIFICATION = auto()
    COMPLETE_FILE_NOTIFICATION = auto()
    ABANDON_FILE_NOTIFICATION = auto()
    CREATE_JOB = auto()
    LIST_JOBS = auto()
    GET_JOB = auto()
    CANCEL_JOB = auto()
    CREATE_SCHEDULED_JOB = auto()
    GET_SCHEDULED_JOB = auto()
    CANCEL_SCHEDULED_JOB = auto()
    QUERY_SCHEDULED_JOBS = auto()
    LIST_CONFIGURATIONS = auto()
    GET_CONFIGURATION = auto()
    PUT_CONFIGURATION = auto()
    DELETE_CONFIGURATION = auto()
    TEST_QUERIES = auto()
    APPLY_CONTENT = auto()
    GET_DIGITAL_TWIN = auto()
    PATCH_DIGITAL_TWIN = auto()
    INVOKE_COMMAND = auto()
    SEND_EVENTS = auto()
    RECEIVE_COMMAND = auto()
    SETTLE_COMMAND = auto()
    ABANDON_COMMAND = auto()
    OPEN_UPLOAD = auto()
    COMPLETE_UPLOAD = auto()
    WEBSOCKET = auto()
    NOT_BUILT = auto()


DEVICE_SIDE = frozenset(
    (
        Action.SEND_EVENTS,
        Action.RECEIVE_COMMAND,
        Action.SETTLE_COMMAND,
        Action.ABANDON_COMMAND,
        Action.OPEN_UPLOAD,
        Action.COMPLETE_UPLOAD,
    )
)
"""Operations of devices, which prove themselves."""


@dataclass(frozen=True, slots=True)
class Route:
    """An operation; segments in braces are ids. A role must allow all of `data_actions`; an empty one is in no role."""

    verb: str
    segments: tuple[str, ...]
    action: Action
    right: Right | None
    data_actions: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True)
class Match:
    """An operation with the ids of its path."""

    route: Route
    device_id: str
    module_id: str
    token: str = ""
    name: str = ""


def segments_of(path: str) -> tuple[str, ...]:
    """The segments of a raw path, each decoded once; raises `ARGUMENT_INVALID` when one is not UTF-8."""
    raw = path.removeprefix("/").removesuffix("/").split("/")
    try:
        return tuple(unquote_to_bytes(segment).decode() for segment in raw)
    except UnicodeDecodeError as error:
        raise HubError(Code.ARGUMENT_INVALID, "The path is not UTF-8") from error


def find(verb: str, path: str) -> Match:
    """The operation at a raw path; raises `NOT_FOUND`, or `METHOD_NOT_ALLOWED` where only the verb is wrong."""
    segments = segments_of(path)
    candidates = [route for route in ROUTES if _fits(route.segments, segments)]
    if not candidates:
        raise HubError(Code.NOT_FOUND, "There is no such resource")
    for route in candidates:
        if route.verb == verb:
            names = ("{id}", "{module}", "{token}", "{name}")
            return Match(route, *(_id(route, segments, name) for name in names))
    raise HubError(Code.METHOD_NOT_ALLOWED, f"{verb} is not an operation of this resource")


def check_api_version(version: str | None) -> None:
    """Raises `INVALID_PROTOCOL_VERSION` unless it is a version that clients send."""
    if version not in API_VERSIONS:
        raise HubError(Code.INVALID_PROTOCOL_VERSION, "api-version is missing or unknown")


def _fits(template: tuple[str, ...], segments: tuple[str, ...]) -> bool:
    return len(template) == len(segments) and all(
        bool(given) if wanted.startswith("{") else given.lower() == wanted
        for wanted, given in zip(template, segments, strict=True)
    )


def _id(route: Route, segments: tuple[str, ...], name: str) -> str:
    return segments[route.segments.index(name)] if name in route.segments else ""


def _routes() -> Iterator[Route]:
    for line in TABLE.strip().splitlines():
        verb, path, action, right, data_actions = line.split()
        segments = tuple(path.removeprefix("/").split("/"))
        named = ("",) if data_actions == "-" else tuple(f"{DATA_ACTIONS}{each}" for each in data_actions.split(","))
        yield Route(verb, segments, Action[action], None if right == "-" else Right(right), named)


TABLE = """
POST   /devices/query                         QUERY               ServiceConnect twins/read
POST   /devices/keys/regenerate               RENEW_KEYS          RegistryWrite  devices/write
GET    /devices                               LIST_DEVICES        RegistryRead   devices/read
POST   /devices                               BULK                RegistryWrite  devices/write,devices/delete
GET    /devices/{id}                          GET_IDENTITY        RegistryRead   devices/read
PUT    /devices/{id}                          PUT_IDENTITY        RegistryWrite  devices/write
DELETE /devices/{id}                          DELETE_IDENTITY     RegistryWrite  devices/delete
GET    /devices/{id}/modules                  LIST_MODULES        RegistryRead   devices/read
GET    /devices/{id}/modules/{module}         GET_IDENTITY        RegistryRead   devices/read
PUT    /devices/{id}/modules/{module}         PUT_IDENTITY        RegistryWrite  devices/write
DELETE /devices/{id}/modules/{module}         DELETE_IDENTITY     RegistryWrite  devices/delete
DELETE /devices/{id}/commands PURGE ServiceConnect cloudToDeviceMessages/queue/purge/action
POST /devices/{id}/applyconfigurationcontent APPLY_CONTENT RegistryWrite configurations/applyToEdgeDevice/action
GET    /statistics/devices                    REGISTRY_STATISTICS RegistryRead   statistics/read
GET    /statistics/service                    SERVICE_STATISTICS  RegistryRead   statistics/read
GET    /twins/{id}                            GET_TWIN            ServiceConnect twins/read
PATCH  /twins/{id}                            PATCH_TWIN          ServiceConnect twins/write
PUT    /twins/{id}                            PUT_TWIN            ServiceConnect twins/write
GET    /twins/{id}/modules/{module}           GET_TWIN            ServiceConnect twins/read
PATCH  /twins/{id}/modules/{module}           PATCH_TWIN          ServiceConnect twins/write
PUT    /twins/{id}/modules/{module}           PUT_TWIN            ServiceConnect twins/write
POST   /twins/{id}/methods                    INVOKE_METHOD       ServiceConnect directMethods/invoke/action
POST   /twins/{id}/modules/{module}/methods   INVOKE_METHOD       ServiceConnect directMethods/invoke/action
GET    /digitaltwins/{id}                     GET_DIGITAL_TWIN    ServiceConnect twins/read
PATCH  /digitaltwins/{id}                     PATCH_DIGITAL_TWIN  ServiceConnect twins/write
POST   /digitaltwins/{id}/commands/{name}     INVOKE_COMMAND      ServiceConnect directMethods/invoke/action
POST /digitaltwins/{id}/components/{token}/commands/{name} INVOKE_COMMAND ServiceConnect directMethods/invoke/action
GET /messages/servicebound/feedback RECEIVE_FEEDBACK ServiceConnect cloudToDeviceMessages/feedback/action
DELETE /messages/servicebound/feedback/{token} COMPLETE_FEEDBACK ServiceConnect cloudToDeviceMessages/feedback/action
POST /messages/servicebound/feedback/{token}/abandon ABANDON_FEEDBACK \
    ServiceConnect cloudToDeviceMessages/feedback/action
GET /messages/servicebound/filenotifications RECEIVE_FILE_NOTIFICATION ServiceConnect fileUpload/notifications/action
DELETE /messages/servicebound/filenotifications/{token} COMPLETE_FILE_NOTIFICATION \
    ServiceConnect fileUpload/notifications/action
POST /messages/servicebound/filenotifications/{token}/abandon ABANDON_FILE_NOTIFICATION \
    ServiceConnect fileUpload/notifications/action
GET    /configurations                        LIST_CONFIGURATIONS RegistryRead   configurations/read
POST   /configurations/testqueries            TEST_QUERIES        RegistryRead   configurations/testQueries/action
GET    /configurations/{name}                 GET_CONFIGURATION   RegistryRead   configurations/read
PUT    /configurations/{name}                 PUT_CONFIGURATION   RegistryWrite  configurations/write
DELETE /configurations/{name}                 DELETE_CONFIGURATION RegistryWrite  configurations/delete
POST   /jobs/create                           CREATE_JOB          RegistryWrite  jobs/write
GET    /jobs                                  LIST_JOBS           RegistryRead   jobs/read
GET    /jobs/v2/query                         QUERY_SCHEDULED_JOBS ServiceConnect jobs/read
GET    /jobs/v2/{name}                        GET_SCHEDULED_JOB   ServiceConnect jobs/read
PUT    /jobs/v2/{name}                        CREATE_SCHEDULED_JOB ServiceConnect jobs/write
POST   /jobs/v2/{name}/cancel                 CANCEL_SCHEDULED_JOB ServiceConnect jobs/delete
GET    /jobs/{name}                           GET_JOB             RegistryRead   jobs/read
DELETE /jobs/{name}                           CANCEL_JOB          RegistryWrite  jobs/delete
POST   /devices/{id}/messages/events          SEND_EVENTS         -              -
POST   /devices/{id}/modules/{module}/messages/events SEND_EVENTS         -              -
GET    /devices/{id}/messages/devicebound     RECEIVE_COMMAND     -              -
DELETE /devices/{id}/messages/devicebound/{token} SETTLE_COMMAND      -              -
POST   /devices/{id}/messages/devicebound/{token}/abandon ABANDON_COMMAND     -              -
POST   /devices/{id}/files                    OPEN_UPLOAD         -              -
POST   /devices/{id}/files/notifications      COMPLETE_UPLOAD     -              -
POST   /devices/{id}/files/notifications/{token} COMPLETE_UPLOAD     -              -
GET    /$iothub/websocket                     WEBSOCKET           -              -
GET    /$servicebus/websocket                 WEBSOCKET           -              -
"""
"""Verb, path, action, right of a policy, data actions of a role; NOT_BUILT is answered 501 to those who may."""

ROUTES = tuple(_routes())
