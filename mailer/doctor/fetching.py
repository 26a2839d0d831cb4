"""Download a small public file over HTTPS, within bounds of time and size."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from mailer.doctor.names import Names
from mailer.doctor.pages import reason
from mailer.errors import MailerError
from mailer.smtp.tls import client_context

_SECONDS: Final = 15.0
"""For one address, from the connection to the last octet."""
_ADDRESSES: Final = 2
"""How many addresses of a host are tried."""
HTTPS: Final = 443


class FetchError(MailerError):
    """A file could not be downloaded; the message says why, without the address."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A downloaded file."""

    media_type: str
    content: bytes


def fetch(names: Names, url: str, *, most_octets: int, port: int = HTTPS) -> Fetched:
    """Return the file at an https URL. Redirects are not followed, and the certificate must be valid.

    Its host is looked up by `names`. Raises `FetchError` if there is no such file, or it is larger than
    `most_octets`.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    addresses = names.addresses(host)[:_ADDRESSES]
    if not addresses:
        raise FetchError(f"{host} has no address")
    failure = ""
    for address in addresses:
        place = f"[{address}]" if address.version == 6 else str(address)
        target = parts._replace(netloc=f"{place}:{parts.port or port}", path=parts.path or "/")
        request = httpx.Request(
            "GET", target.geturl(), headers={"Host": parts.netloc}, extensions={"sni_hostname": host}
        )
        try:
            return asyncio.run(_download(request, most_octets))
        except TimeoutError:
            failure = f"no whole answer within {_SECONDS:g} seconds"
        except httpx.HTTPError as error:
            failure = reason(error)
    raise FetchError(f"{host} cannot be reached ({failure})")


async def _download(request: httpx.Request, most_octets: int) -> Fetched:
    client = httpx.AsyncClient(verify=client_context(), timeout=None, trust_env=False)  # noqa: S113
    # One limit over everything: a server that sends an octet now and then keeps within any other.
    async with asyncio.timeout(_SECONDS), client:
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            if response.is_redirect:
                raise FetchError("the server redirects to another address")
            if response.status_code != httpx.codes.OK:
                raise FetchError(f"the server answers HTTP {response.status_code}")
            content = b""
            # Raw, because a compressed answer could unpack to any size.
            async for piece in response.aiter_raw(8192):
                content += piece
                if len(content) > most_octets:
                    raise FetchError(f"it is larger than {most_octets:,} octets")
        finally:
            await response.aclose()
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Fetched(media_type, content)
