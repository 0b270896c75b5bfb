"""Which proxy leads where, and what proxies answer."""

import base64

import pytest

from isthmus.base.errors import ConfigurationError
from isthmus.connector.proxies import (
    ANSWER_BYTES_MAX,
    Proxies,
    Proxy,
    ProxyRefused,
    TunnelAnswer,
    parse_proxy,
    proxies_of,
    tunnel_request,
)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.test:3128", Proxy("proxy.test", 3128)),
        ("proxy.test:3128", Proxy("proxy.test", 3128)),
        ("http://proxy.test/", Proxy("proxy.test", 80)),
        ("https://proxy.test", Proxy("proxy.test", 443, secure=True)),
        ("http://[fd00::1]:8080", Proxy("fd00::1", 8080)),
        ("http://u%40x:p%3A@proxy.test:1", Proxy("proxy.test", 1, authorization="Basic dUB4OnA6")),
    ],
)
def test_a_url_names_a_proxy(url: str, proxy: Proxy) -> None:
    assert parse_proxy(url, "--proxy") == proxy


@pytest.mark.parametrize(
    "url", ["socks5://proxy.test:1080", "http:///", "http://proxy.test:port", "http://proxy.test/a"]
)
def test_what_is_no_proxy_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_proxy(url, "HTTPS_PROXY")
    assert "HTTPS_PROXY" in str(refused.value)
    assert "proxy.test" not in str(refused.value)


def test_the_option_wins_over_the_environment() -> None:
    environment = {"HTTPS_PROXY": "http://other.test:1", "NO_PROXY": "hub.test"}
    assert proxies_of("http://proxy.test:2", environment).to("hub.test") == Proxy("proxy.test", 2)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy"])
def test_the_environment_names_a_proxy_in_either_case(name: str) -> None:
    assert proxies_of("", {name: "http://proxy.test:1"}).to("hub.test") == Proxy("proxy.test", 1)


@pytest.mark.parametrize(
    ("exceptions", "host", "direct"),
    [
        ("hub.test", "hub.test", True),
        ("hub.test", "a.hub.test", True),
        ("hub.test", "thehub.test", False),
        (".hub.test", "a.hub.test", True),
        ("*.hub.test", "a.hub.test", True),
        ("HUB.test , other.test", "hub.TEST", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "hub.test", False),
        ("*", "anything.test", True),
        ("", "hub.test", False),
    ],
)
def test_exceptions_are_reached_directly(exceptions: str, host: str, *, direct: bool) -> None:
    proxies = proxies_of("", {"HTTPS_PROXY": "http://proxy.test:1", "NO_PROXY": exceptions})
    assert (proxies.to(host) is None) is direct


def test_without_a_proxy_all_is_direct() -> None:
    assert proxies_of("", {}) == Proxies()
    assert Proxies().to("hub.test") is None


def test_a_tunnel_is_asked_for_by_host_and_port() -> None:
    assert tunnel_request(Proxy("p", 1), "hub.test", 9443).startswith(b"CONNECT hub.test:9443 HTTP/1.1\r\n")
    assert b"Host: [fd00::1]:9443\r\n" in tunnel_request(Proxy("p", 1), "fd00::1", 9443)
    assert b"Proxy-Authorization: Basic eA==\r\n\r\n" in tunnel_request(
        Proxy("p", 1, authorization="Basic eA=="), "h", 1
    )


def test_a_tunnel_opens_however_its_answer_is_cut() -> None:
    text = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n\x16\x03"
    answer = TunnelAnswer()
    opened = [answer.receive(text[place : place + 1]) for place in range(len(text) - 2)]
    assert opened == [False] * (len(text) - 3) + [True]
    whole = TunnelAnswer()
    assert whole.receive(text)
    assert whole.rest == b"\x16\x03"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "it answered 407 Proxy Authentication Required"),
        (b"HTTP/1.0 403\r\n\r\n", "it answered 403"),
        (b"SSH-2.0-x\r\n\r\n", "its answer is not HTTP"),
        (b"x" * (ANSWER_BYTES_MAX + 1), "its answer has no end"),
    ],
)
def test_a_tunnel_that_does_not_open_says_why(answer: bytes, words: str) -> None:
    with pytest.raises(ProxyRefused, match=words):
        TunnelAnswer().receive(answer)


def test_a_password_is_in_no_repr() -> None:
    assert "secret" not in repr(parse_proxy("http://user:secret@proxy.test", "--proxy"))
    assert base64.b64encode(b"user:secret").decode() not in repr(Proxies(parse_proxy("http://user:secret@p", "x")))
