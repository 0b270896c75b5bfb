"""Fuzz targets of what proves somebody: SAS tokens, user names of PLAIN, JSON Web Tokens, keys and SAS of storage.

Invariant: a text is read, or refused as the one refusal of its protocol, before anything in it has been proved; nothing
else is ever raised, whatever was read can be asked everything that is asked of it, and what is written is read again.
"""

from contextlib import suppress

from fuzz.target import pure
from isthmus.access.access_tokens import Issuer, bearer_of, is_bearer, verify
from isthmus.access.sas import covers, matching_key, names_exactly, names_host, parse, resource_of
from isthmus.base.errors import HubError
from isthmus.base.sas_token import sign
from isthmus.neighbours.blob.errors import StorageError
from isthmus.neighbours.blob.names import Target as BlobTarget
from isthmus.neighbours.blob.query import parse_query
from isthmus.neighbours.blob.sas import check_peer, check_time, parse_sas, text_to_sign, verify_sas
from isthmus.neighbours.blob.shared_key import is_recent, parse_shared_key, signed_texts, signing_key
from isthmus.resources.storage_account import masked, read_account, without_key
from isthmus.servers.gateway.amqp import _plain_parts
from isthmus.servers.gateway.plain import parse_plain_user
from isthmus.wire.link.token import TokenError, encode_token, parse_token

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
NOW_MS = 1_767_225_600_000
HOSTS = ("hub.isthmus.test",)
ISSUERS = (Issuer("https://issuer.isthmus.test/", dict),)


def header_text(data: bytes) -> str:
    """The text that the HTTP library makes of a header's bytes."""
    return data.decode("utf-8", "surrogateescape")


def check_sas_token(data: bytes) -> None:
    """As it comes in a password, in a header and in a put-token."""
    for text in (data.decode(errors="ignore"), header_text(data)):
        with suppress(HubError):
            token = parse(text)
            said = next(part for part in text.partition(" ")[2].strip().split("&") if part.startswith("sr="))
            assert token.resource == resource_of(said.removeprefix("sr="))
            matching_key(token, (KEY, "", "no base64"))
            names_host(token.resource, HOSTS)
            covers(token.resource.path, ("devices", "dev1"))
            names_exactly(token.resource.path, ("devices", "dev1"))
        name = "".join(character for character in text[:64] if character.isprintable() and not character.isspace())
        assert parse(sign(f"{HOSTS[0]}/devices/{name}", KEY, 2_000_000_000, name)).policy == name


def check_plain(data: bytes) -> None:
    """The response of SASL PLAIN."""
    name, password = _plain_parts(data)
    user = parse_plain_user(name)
    assert user is None or (user.hub and (user.policy or user.device_id or user.module_id or name.startswith("/")))
    with suppress(HubError):
        parse(password)


def check_json_web_token(data: bytes) -> None:
    """As it comes in a header, before its issuer is known and its signature has been looked at."""
    text = header_text(data)
    is_bearer(text)
    with suppress(HubError):
        verify(bearer_of(text), ISSUERS, {"https://hub.isthmus.test"}, now_ms=NOW_MS)


def check_connection_string(data: bytes) -> None:
    """Of a storage account, as an owner writes it."""
    text = data.decode(errors="replace")
    without_key(masked(text))
    with suppress(HubError):
        account = read_account(text, "properties.storage")
        assert account.name
        assert "://" in account.blob_url


def check_storage_sas(data: bytes) -> None:
    """A query with a signature, judged to its end."""
    with suppress(StorageError):
        sas = parse_sas(parse_query(header_text(data)))
        if sas is not None:
            target = BlobTarget("container", "blob")
            text = text_to_sign(sas, "account", target, {"x-ms-version": "2021-08-06"})
            with suppress(StorageError):
                check_time(sas, NOW_MS)
            with suppress(StorageError):
                check_peer(sas, "10.1.0.5")
            assert sas.reaches(target, target)
            sas.overrides()
            verify_sas(sas, text, (KEY, "no base64"))


def check_shared_key(data: bytes) -> None:
    """A first line for the Authorization header, one for its date, one for the query, and further headers."""
    authorization, date, query, *more = header_text(data).split("\n")[:8] + [""] * 3
    headers = {"x-ms-date": date, **{f"x-ms-{number}-{text[:8]}": text for number, text in enumerate(more)}}
    is_recent(headers, NOW_MS)
    shared = parse_shared_key(authorization)
    with suppress(StorageError):
        texts = signed_texts("PUT", headers, "account", f"/container/{authorization}", parse_query(query))
        assert signing_key(texts, b"" if shared is None else shared.signature, (KEY, "")) is None


def check_enrolment_token(data: bytes) -> None:
    """A connector's token."""
    with suppress(TokenError):
        token = parse_token(data.decode(errors="replace"))
        assert parse_token(encode_token(token)) == token


TARGETS = (
    pure("sas-token", check_sas_token),
    pure("sasl-plain", check_plain),
    pure("json-web-token", check_json_web_token),
    pure("connection-string", check_connection_string),
    pure("storage-sas", check_storage_sas),
    pure("shared-key", check_shared_key),
    pure("enrolment-token", check_enrolment_token),
)
