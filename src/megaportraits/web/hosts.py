"""Check the `Host`, `Origin` and `Sec-Fetch-*` headers of a request against the accepted host names.

Every website that the visitor has open can send requests to a page on localhost: by a form or `fetch` (the browser then
sends `Origin` and `Sec-Fetch-Site`), and by DNS rebinding, where an attacker's name resolves to 127.0.0.1 (the browser
then sends that name as `Host`). Sources: RFC 9110 (Host), RFC 6454 (Origin), W3C Fetch Metadata.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from megaportraits.errors import ConfigError

_LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9._-]{1,253}))(?::(?P<port>\d{1,5}))?", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Hosts:
    """The accepted host names of a server.

    Attributes:
        named: host names and addresses, lower case, without ports.
        any_address: whether every IP address is accepted. DNS rebinding needs a name, not an address.
        listen: the address to listen on.
    """

    named: frozenset[str]
    any_address: bool
    listen: str

    @staticmethod
    def of(given: Sequence[str] = (), also: Sequence[str] = ()) -> Hosts:
        """Read the values of `--host`.

        The server listens on the first value that is an IP address or `localhost`, otherwise on the first value. It
        accepts all values as host names, and always `localhost`, 127.0.0.1 and ::1. With 0.0.0.0 or :: it also accepts
        every IP address and the name of this machine.

        Args:
            given: addresses to listen on, and names; empty means 127.0.0.1.
            also: further accepted names.

        Raises:
            ConfigError: a value is neither a host name nor an IP address.
        """
        hosts = [_plain(one) for one in given] or ["127.0.0.1"]
        listen = next((host for host in hosts if host == "localhost" or _address(host)), hosts[0])
        named = {*hosts, *map(_plain, also), *_LOCAL_NAMES}
        everywhere = any(found.is_unspecified for host in hosts if (found := _address(host)))
        if everywhere:
            here = socket.gethostname().lower().rstrip(".")
            named |= {here, f"{here.partition('.')[0]}.local"}
        return Hosts(frozenset(named), everywhere, listen)

    def refusal(self, method: str, headers: Mapping[str, str]) -> str | None:
        """The reason to refuse a request, one sentence; None if it is accepted.

        Args:
            method: GET, POST and so on.
            headers: of the request, by lower-case name.
        """
        for header in ("host", "x-forwarded-host"):
            value = headers.get(header)
            if value is None and header == "host":
                return "Expected a Host header, got none."
            if value is not None and not self._answers_to(value):
                return (
                    f"This server does not accept the host {_short(value)}. Its operator can add a name: --host NAME."
                )
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is not None:
            if not self._own(origin, headers["host"]):
                return f"Requests from pages of {_short(origin)} are refused."
        elif site in ("cross-site", "same-site") and not _is_visit(method, headers):
            return "Requests from pages of other sites are refused."
        return None

    def _answers_to(self, host: str) -> bool:
        found = _HOST.fullmatch(host.strip().lower())
        if found is None:
            return False
        name = found["six"] or found["name"].rstrip(".")
        return name in self.named or (self.any_address and _address(name) is not None)

    def _own(self, origin: str, host: str) -> bool:
        """Whether an origin is this server: the requested host, or, behind a proxy, a name of `--host`."""
        try:
            parts = urlsplit(origin.strip().lower())
            port = parts.port
        except ValueError:
            return False
        asked = _HOST.fullmatch(host.strip().lower())
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or asked is None:
            return False
        default = _DEFAULT_PORTS[parts.scheme]
        same_port = (port or default) == int(asked["port"] or default)
        same_name = parts.hostname.rstrip(".") == (asked["six"] or asked["name"].rstrip("."))
        # For a proxy that rewrites Host, the public name has to be one of --host. Local names need the same port,
        # because other ports of this machine belong to other programs.
        return (same_name and same_port) or (parts.hostname in self.named - {*_LOCAL_NAMES, self.listen})


def _is_visit(method: str, headers: Mapping[str, str]) -> bool:
    """Whether a browser opens the page because a person followed a link."""
    return (
        method in ("GET", "HEAD")
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )


def _plain(host: str) -> str:
    plain = host.strip().lower().removeprefix("[").removesuffix("]").rstrip(".")
    if _address(plain) is None and not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", plain, re.ASCII):
        raise ConfigError(
            f"--host {host!r}: expected a host name or an IP address, without a port.",
            fix="For example --host 0.0.0.0 or --host demo.example.org; use --port for the port.",
        )
    return plain


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:80]}...")
