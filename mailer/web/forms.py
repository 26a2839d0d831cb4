"""A request's form fields, and the client that it came from."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_NAME: Final = 100
_MAX_FIELDS: Final = 64


async def fields_of(request: Request) -> dict[str, str]:
    """Return a form's fields, urlencoded or multipart (RFC 8058 section 3.1 allows both).

    python-multipart reads multipart forms in linear time; files are ignored.
    """
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        async with request.form(max_files=1, max_fields=_MAX_FIELDS) as form:
            return {name: value for name, value in form.items() if isinstance(value, str)}
    try:
        return dict(parse_qsl((await request.body()).decode(), max_num_fields=_MAX_FIELDS))
    except ValueError as error:
        raise HTTPException(400) from error


def client_ip(request: Request) -> str:
    """Return the client's IP address, as a trusted proxy forwards it, or an empty string."""
    host = request.client.host if request.client else ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return ""
    # A zone (RFC 4007) may have any length.
    return host.partition("%")[0]


def network(ip: str) -> str:
    """Return the identity of a client: its IPv4 address, or the /64 of its IPv6 address."""
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if isinstance(parsed, ipaddress.IPv4Address):
        return ip
    # A dual-stack listener sees IPv4 clients as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2), all in one /64.
    return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
