"""The address of the caller of a request."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

from sanic import Request

# Longer than any address with a zone and surrounding blanks. Invented text must not fill the cache of addresses.
_LONGEST_ADDRESS: Final = 128


def client_address(request: Request) -> str:
    """Return the caller's IP address in its shortest form, as the proxies in front report it (``PROXIES_COUNT``).

    A header can report any text. If it is not an address, it is ignored and the peer's own address is used.
    """
    return normal_address(request.client_ip) or normal_address(request.ip) or "unknown"


def normal_address(text: str) -> str:
    """Return ``text`` as an address: IPv4 mapped to IPv6 as IPv4, no zone, no brackets; "" for anything else."""
    return _normal_address(text) if len(text) <= _LONGEST_ADDRESS else ""


@lru_cache(maxsize=1024)
def _normal_address(text: str) -> str:
    try:
        address = ip_address(text.strip().removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.compressed
