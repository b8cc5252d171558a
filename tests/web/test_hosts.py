"""Host names whose requests a server answers."""

from __future__ import annotations

import socket

import pytest

from megaportraits.errors import ConfigError
from megaportraits.web.hosts import Hosts

LOCAL = {"host": "localhost:7860"}
FOREIGN_NAMES = ["evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.9"]
NO_NAMES = [
    "",
    "localhost:",
    "localhost:7860/",
    "a@localhost",
    "localhost, evil.example",
    "[::1",
    "local host",
    "\u212aelvin",
]


def refused(hosts: Hosts, method: str = "GET", **headers: str) -> bool:
    return hosts.refusal(method, {name.replace("_", "-"): value for name, value in headers.items()}) is not None


@pytest.mark.parametrize("host", FOREIGN_NAMES + NO_NAMES)
def test_foreign_hosts_are_refused(host: str) -> None:
    assert refused(Hosts.of(), host=host)
    assert refused(Hosts.of(), host="localhost", x_forwarded_host=host)


def test_a_request_without_a_host_is_refused() -> None:
    assert "none" in str(Hosts.of().refusal("GET", {}))


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7860", "127.0.0.1:80", "[::1]:7860", "localhost.:7860"])
def test_this_machine_is_always_answered(host: str) -> None:
    for hosts in (Hosts.of(), Hosts.of(["0.0.0.0"]), Hosts.of(["demo.example.org"])):
        assert not refused(hosts, host=host)


def test_names_that_were_given_are_answered_and_their_neighbours_are_not() -> None:
    hosts = Hosts.of(["127.0.0.1", "Demo.Example.org"])
    assert hosts.listen == "127.0.0.1" and not refused(hosts, host="demo.example.org")
    assert refused(hosts, host="example.org") and refused(hosts, host="x.demo.example.org")


def test_listening_everywhere_answers_to_addresses_and_the_machines_own_name_but_to_no_other() -> None:
    hosts = Hosts.of(["0.0.0.0"])
    for host in ("192.168.1.5:7860", "[fd00::1]:7860", socket.gethostname()):
        assert not refused(hosts, host=host), host
    assert refused(hosts, host="evil.example")


def test_where_names_are_given_first_the_address_is_still_listened_on() -> None:
    assert Hosts.of(["demo.example.org", "10.0.0.5"]).listen == "10.0.0.5"
    assert Hosts.of(["demo.example.org"]).listen == "demo.example.org"
    assert Hosts.of(["[::1]"]).listen == "::1"
    assert Hosts.of([], also=["demo.example.org"]).listen == "127.0.0.1"


@pytest.mark.parametrize("host", ["http://demo.example.org", "demo.example.org:443", "", "a b", "*", "a..b"])
def test_what_is_no_host_is_reported(host: str) -> None:
    with pytest.raises(ConfigError, match="expected a host name or an IP address"):
        Hosts.of([host])


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost",  # another port: another program
        "http://localhost:3000",
        "http://127.0.0.1:7860",  # not what was asked for
        "http://localhost:7860.evil.example",
        "null",
        "file://",
        "chrome-extension://abcdef",
        "http://[::1",
        "http://localhost:99999999",
        "",
    ],
)
def test_foreign_origins_are_refused_whatever_they_do(origin: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        assert refused(Hosts.of(), method, **LOCAL, origin=origin)


def test_the_pages_own_origin_is_answered() -> None:
    assert not refused(Hosts.of(), "POST", **LOCAL, origin="http://localhost:7860")
    assert not refused(Hosts.of(), "POST", host="127.0.0.1", origin="http://127.0.0.1:80")
    assert not refused(Hosts.of(), "POST", host="localhost", origin="https://localhost")


def test_behind_a_proxy_the_given_name_is_the_pages_own_even_if_host_is_rewritten() -> None:
    hosts = Hosts.of(["127.0.0.1", "demo.example.org"])
    assert not refused(hosts, "POST", host="demo.example.org", origin="https://demo.example.org")
    assert not refused(hosts, "POST", **LOCAL, origin="https://demo.example.org")
    assert refused(hosts, "POST", **LOCAL, origin="https://example.org")
    assert refused(hosts, "POST", **LOCAL, origin="http://127.0.0.1:9")


def test_other_sites_may_link_here_but_embed_and_send_nothing() -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert not refused(Hosts.of(), **LOCAL, **link)
    assert refused(Hosts.of(), "POST", **LOCAL, **link)
    assert refused(Hosts.of(), **LOCAL, **(link | {"sec_fetch_dest": "iframe"}))
    for site in ("cross-site", "same-site"):
        assert refused(Hosts.of(), **LOCAL, sec_fetch_site=site, sec_fetch_mode="no-cors", sec_fetch_dest="image")
    for site in ("same-origin", "none"):
        assert not refused(Hosts.of(), **LOCAL, sec_fetch_site=site, sec_fetch_mode="cors", sec_fetch_dest="empty")
