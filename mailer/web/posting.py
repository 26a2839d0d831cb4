"""POST requests to other programs, which cannot reach into this network or take longer than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Final
from urllib.parse import urlsplit

import httpcore

from mailer.review.links import Address, UrlError, addresses_of, checked_addresses, is_public
from mailer.smtp.tls import client_context

TIMEOUT_SECONDS: Final = 10.0
"""For one request, from the name server to the status of the response."""


# Loading the system's certificates takes longer than most requests.
_tls: Final = cache(client_context)


class PostError(Exception):
    """Raised if there was no response; the message says why."""


async def post(
    url: str,
    headers: Mapping[str, str],
    content: bytes,
    *,
    allow_private: bool = False,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> int:
    """Return the status of one request, without reading the response's body or following redirects.

    A host is resolved once, and the connection goes to the address that was checked. Unless `allow_private`,
    that must be a public one. Raises `PostError`.
    """
    fields = {
        "host": urlsplit(url).netloc.rpartition("@")[2],
        "content-length": str(len(content)),
        "connection": "close",
        **headers,
    }
    backend = _CheckedBackend(allow_private=allow_private)
    try:
        async with (
            asyncio.timeout(timeout_seconds),
            httpcore.AsyncConnectionPool(ssl_context=_tls(), network_backend=backend) as pool,
            pool.stream("POST", url, headers=list(fields.items()), content=content) as response,
        ):
            return response.status
    except TimeoutError as error:
        raise PostError(f"no response within {timeout_seconds:g} s") from error
    except (OSError, httpcore.NetworkError, httpcore.ProtocolError, UrlError) as error:
        said = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
        raise PostError(said) from error


class _CheckedBackend(httpcore.AnyIOBackend):
    """Connects to exactly the address that was checked, and to private ones only if allowed."""

    def __init__(self, *, allow_private: bool) -> None:
        super().__init__()
        self._allow_private = allow_private

    def _is_permitted(self, address: Address) -> bool:
        return self._allow_private or is_public(address)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's name
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        found = await asyncio.to_thread(
            checked_addresses, host, port, resolve=addresses_of, permitted=self._is_permitted
        )
        return await super().connect_tcp(found[0], port, timeout, local_address, socket_options)
