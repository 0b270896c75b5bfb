"""Shared access signatures: the published vectors, every spelling that clients use, and what a token covers."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isthmus.access import sas
from isthmus.base import sas_token
from isthmus.base.errors import Code, HubError

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
OTHER_KEY = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
EXPIRY = 1_767_225_600
HOST = "contoso.azure-devices.net"
DEVICE = f"{HOST}/devices/dev1"
TOKEN = (
    "SharedAccessSignature sr=contoso.azure-devices.net%2Fdevices%2Fdev1"
    "&sig=MdQkECNoj7WIz6W%2BaKr670NnmJZm8V8JaKM0tlU%2FE14%3D&se=1767225600"
)


@pytest.mark.parametrize(
    ("resource", "signature"),
    [
        (DEVICE, "MdQkECNoj7WIz6W%2BaKr670NnmJZm8V8JaKM0tlU%2FE14%3D"),
        (f"{DEVICE}/modules/mod1", "nSLpp%2B9oEwxhHfa1ZmC%2FWojXQ4DDckvjfXJV97cwhRw%3D"),
        (HOST, "6s1DYV6UV98Vq3epNvno15fDP%2FZgyDNA%2FYtPDCBZlHE%3D"),
    ],
)
def test_signs_as_the_sdks_do(resource: str, signature: str) -> None:
    token = sas_token.sign(resource, KEY, EXPIRY)
    assert f"&sig={signature}&se={EXPIRY}" in token
    assert sas.matching_key(sas.parse(token), (OTHER_KEY, KEY)) == KEY


def test_reads_the_fields() -> None:
    token = sas.parse(TOKEN)
    assert token.resource == sas.Resource(HOST, ("devices", "dev1"))
    assert token.expires_s == EXPIRY
    assert token.policy == ""
    assert "MdQk" not in repr(token)


@pytest.mark.parametrize(
    "fields",
    [
        "sig={sig}&se={se}&sr={sr}",
        "se={se}&sr={sr}&sig={sig}",
        "sr={sr}&sig={sig}&se={se}&skn=",
        "sr={sr}&sig={sig}&unknown=1&se={se}",
        "sr={sr}&sig={raw}&se={se}",
    ],
)
def test_order_and_additions_do_not_matter(fields: str) -> None:
    text = "SharedAccessSignature " + fields.format(
        sr="contoso.azure-devices.net%2Fdevices%2Fdev1",
        sig="MdQkECNoj7WIz6W%2BaKr670NnmJZm8V8JaKM0tlU%2FE14%3D",
        raw="MdQkECNoj7WIz6W+aKr670NnmJZm8V8JaKM0tlU/E14=",
        se=EXPIRY,
    )
    token = sas.parse(text)
    assert token.policy == ""
    assert sas.matching_key(token, (KEY, "")) == KEY


@pytest.mark.parametrize(
    "encoded", [DEVICE, DEVICE.replace("/", "%2f"), DEVICE.replace("/", "%2F").replace("dev", "d%65v")]
)
def test_the_signature_is_over_the_text_as_received(encoded: str) -> None:
    text = signed(encoded)
    token = sas.parse(text)
    assert token.resource.path == ("devices", "dev1")
    assert sas.matching_key(token, (KEY, "")) == KEY


def test_the_same_resource_in_another_spelling_has_another_signature() -> None:
    respelled = TOKEN.replace("%2Fdevices", "%2fdevices")
    assert sas.parse(respelled).resource == sas.parse(TOKEN).resource
    assert sas.matching_key(sas.parse(respelled), (KEY, "")) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bearer eyJ0",
        "SharedAccessSignature",
        "sharedaccesssignature sr=a&sig=YQ%3D%3D&se=1",
        "SharedAccessSignature sr=a&sig=YQ%3D%3D",
        "SharedAccessSignature sr=&sig=YQ%3D%3D&se=1",
        "SharedAccessSignature sr=a&sr=a&sig=YQ%3D%3D&se=1",
        "SharedAccessSignature sr=a&sig=YQ%3D%3D&se=1&skn=a&skn=b",
        "SharedAccessSignature sr=a&sig=YQ%3D%3D&se=-1",
        "SharedAccessSignature sr=a&sig=YQ%3D%3D&se=1e9",
        "SharedAccessSignature sr=a&sig=YQ%3D%3D&se=١٢",
        "SharedAccessSignature sr=a&sig=%%%&se=1",
        "SharedAccessSignature sr=a&sig&se=1",
        "SharedAccessSignature sr=" + "a" * sas.TOKEN_CHARACTERS_MAX + "&sig=YQ%3D%3D&se=1",
    ],
)
def test_what_is_not_a_token_is_malformed(text: str) -> None:
    with pytest.raises(HubError) as caught:
        sas.parse(text)
    assert caught.value.code is Code.UNAUTHORIZED_ACCESS
    assert caught.value.refusal is not None
    assert caught.value.refusal.rule == "auth.malformed"


_FIELD = st.builds("{}={}".format, st.sampled_from(["sr", "sig", "se", "skn", "x"]), st.text(max_size=30))


@given(st.one_of(st.text(), st.lists(_FIELD).map(lambda fields: sas_token.PREFIX + "&".join(fields))))
def test_parse_raises_nothing_but_its_refusal(text: str) -> None:
    if isinstance(outcome := attempted(text), HubError):
        assert outcome.refusal is not None
        assert outcome.refusal.rule == "auth.malformed"
    else:
        assert sas.matching_key(outcome, (KEY, OTHER_KEY)) is None


@given(
    host=st.from_regex(r"[a-z]{1,10}\.[a-z]{1,10}", fullmatch=True),
    device=st.from_regex(r"[A-Za-z0-9\-:.%_*?!(),=@$']{1,40}", fullmatch=True),
    policy=st.text(st.characters(codec="utf-8"), max_size=20),
)
def test_what_is_signed_is_read_again(host: str, device: str, policy: str) -> None:
    token = sas.parse(sas_token.sign(f"{host}/devices/{device}", KEY, EXPIRY, policy))
    assert token.resource == sas.Resource(host, ("devices", device))
    assert token.policy == policy
    assert sas.matching_key(token, (KEY, "")) == KEY


def test_a_key_that_is_no_base64_signs_nothing() -> None:
    with pytest.raises(ValueError, match="base64"):
        sas_token.sign(HOST, "not base64!", EXPIRY)
    assert sas.matching_key(sas.parse(TOKEN), ("not base64!", "")) is None


def test_the_dummy_key_opens_nothing() -> None:
    dummy = sas_token.sign(DEVICE, OTHER_KEY, EXPIRY)
    assert sas_token.decode_key(OTHER_KEY) == sas.DUMMY_KEY
    assert sas.matching_key(sas.parse(dummy), ("", "")) is None


@pytest.mark.parametrize("keys", [(KEY, OTHER_KEY), (OTHER_KEY, KEY), (OTHER_KEY, OTHER_KEY), ("", ""), ("!", KEY)])
def test_every_pair_costs_two_digests(keys: tuple[str, str]) -> None:
    calls: list[bytes] = []

    def counted(key: bytes, message: bytes) -> bytes:
        calls.append(message)
        return sas_token.hmac_sha256(key, message)

    sas.matching_key(sas.parse(TOKEN), keys, counted)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("uri", "host", "path"),
    [
        (
            "sb://Hub.Example.Test:5671/hub/ConsumerGroups/$Default",
            "hub.example.test",
            ("hub", "ConsumerGroups", "$Default"),
        ),
        ("sb%3A%2F%2Fhub.example.test%2Fhub", "hub.example.test", ("hub",)),
        ("amqps://hub.example.test/$management", "hub.example.test", ("$management",)),
        ("https://hub.example.test", "hub.example.test", ()),
        ("hub.example.test:8443/", "hub.example.test", ()),
        ("[::1]:443/devices/d", "::1", ("devices", "d")),
        ("", "", ()),
    ],
)
def test_resources_in_every_spelling(uri: str, host: str, path: tuple[str, ...]) -> None:
    assert sas.resource_of(uri) == sas.Resource(host, path)


@pytest.mark.parametrize(
    ("scope", "path", "covered"),
    [
        ((), ("devices", "d"), True),
        (("devices",), ("devices", "d"), True),
        (("devices", "d"), ("devices", "d", "modules", "m"), True),
        (("devices", "d"), ("devices", "d2"), False),
        (("devices", "d", "x"), ("devices", "d"), False),
        (("Devices", "d"), ("devices", "d"), True),
        (("devices", "D"), ("devices", "d"), False),
        (("devices", "a%40b"), ("devices", "a@b"), True),
        (("hub",), ("Hub", "ConsumerGroups", "$Default"), True),
        (("devices", "d"), (), False),
    ],
)
def test_scope_is_compared_by_segments(scope: tuple[str, ...], path: tuple[str, ...], *, covered: bool) -> None:
    assert sas.covers(scope, path) is covered


def test_an_old_sample_in_lower_case_names_the_device_exactly() -> None:
    assert sas.names_exactly(("devices", "mydevice"), ("devices", "MyDevice"))
    assert not sas.names_exactly(("devices", "MYDEVICE"), ("devices", "MyDevice"))
    assert not sas.names_exactly(("devices",), ("devices", "d"))


@pytest.mark.parametrize(
    ("host", "named"), [("hub.a", True), ("", True), ("localhost", True), ("10.0.0.7", True), ("hub.b", False)]
)
def test_a_host_is_this_hubs_or_nobodys(host: str, *, named: bool) -> None:
    assert sas.names_host(sas.Resource(host, ()), ("hub.a",)) is named


def attempted(text: str) -> sas.SasToken | HubError:
    try:
        return sas.parse(text)
    except HubError as error:
        return error


def signed(encoded: str) -> str:
    """A token whose `sr` is taken as it is."""
    key = sas_token.decode_key(KEY)
    assert key is not None
    digest = sas_token.hmac_sha256(key, f"{encoded}\n{EXPIRY}".encode())
    signature = base64.b64encode(digest).decode().replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")
    return f"SharedAccessSignature sr={encoded}&sig={signature}&se={EXPIRY}"
