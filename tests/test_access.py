"""Who may see status and metrics."""

from __future__ import annotations

import pytest

from pushdemo import Push
from pushdemo.push.access import Access
from pushdemo.push.options import ConfigError


def allows(allowed: str, address: str | None = "127.0.0.1", host: str = "x", **more: str) -> bool:
    environ = {"HTTP_HOST": host, **more}
    if address is not None:
        environ["REMOTE_ADDR"] = address
    return Access(allowed).allows(environ)


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:80", "[::1]:1", "::1"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
def test_this_machine(address: str, host: str) -> None:
    if host == "::1":  # no Host has an IPv6 address without brackets (RFC 9110, section 7.2)
        assert not allows("loopback", address, host)
    else:
        assert allows("loopback", address, host)


@pytest.mark.parametrize(
    ("address", "host", "more"),
    [
        ("10.0.0.1", "localhost", {}),
        (None, "localhost", {}),
        ("", "localhost", {}),
        ("unix", "localhost", {}),
        ("::ffff:10.0.0.1", "localhost", {}),
        # A page that has its name lead here.
        ("127.0.0.1", "evil.example.org", {}),
        ("127.0.0.1", "localhost.example.org", {}),
        ("127.0.0.1", "127.0.0.1.example.org", {}),
        # A proxy on this machine.
        ("127.0.0.1", "localhost", {"HTTP_X_FORWARDED_FOR": "127.0.0.1"}),
        ("127.0.0.1", "localhost", {"HTTP_FORWARDED": "for=127.0.0.1"}),
        ("127.0.0.1", "localhost", {"HTTP_X_REAL_IP": "1.2.3.4"}),
        ("127.0.0.1", "localhost", {"HTTP_VIA": "1.1 proxy"}),
    ],
)
def test_nobody_else(address: str | None, host: str, more: dict[str, str]) -> None:
    assert not allows("loopback", address, host, **more)


def test_networks() -> None:
    assert allows("10.0.0.0/8 ::1", "10.2.3.4")
    assert allows("10.0.0.0/8 ::1", "::1")
    assert allows("10.0.0.0/8", "::ffff:10.2.3.4")
    assert not allows("10.0.0.0/8 ::1", "127.0.0.1")
    # Where an address is named, it counts, and nothing that the client says.
    assert allows("127.0.0.1", "127.0.0.1", "anything", HTTP_X_FORWARDED_FOR="1.2.3.4")


def test_all_and_none() -> None:
    assert allows("*", None)
    assert not allows("none", "127.0.0.1", "localhost")


@pytest.mark.parametrize("given", ["", "everybody", "10.0.0.0/33", "10.0.0.1/8", "* 10.0.0.0/8"])
def test_what_names_nobody_is_said(given: str) -> None:
    with pytest.raises(ConfigError, match=r"push\.status = .*: this must be loopback"):
        Push(status=given)
