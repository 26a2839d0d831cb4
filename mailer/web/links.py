"""Token links as people click them, after mail programs have wrapped, quoted or lower-cased them."""

from __future__ import annotations

import re
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

_LINK: Final = re.compile(r"/+(u|p|v|c|o|confirm)/(.*)", re.IGNORECASE | re.DOTALL)
# White space and invisible characters from folded lines; "=" from quoted-printable soft breaks.
_FOLDED: Final = re.compile("[\\s=\u00ad\u200b-\u200f\u2060\ufeff]+")
# Punctuation that may follow a URL in running text; none of it ends one of our paths.
_TRAILING: Final = "/<>.,;:!?()[]{}'\"*|\\\u2019\u201c\u201d\u00ab\u00bb"


def repaired(path: str) -> str:
    """Return the path of a token link as it was sent; other paths come back unchanged.

    Case is restored where we know it: tokens are read in any case.
    """
    found = _LINK.fullmatch(path)
    if found is None:
        return path
    prefix, rest = found[1].lower(), _FOLDED.sub("", found[2]).rstrip(_TRAILING)
    token, *others = rest.split("/")
    if prefix == "o" and token.lower().endswith(".gif"):
        token = token[: -len(".gif")] + ".gif"
    return "/" + "/".join([prefix, token, *(part.lower() for part in others)])


class LinkRepair:
    """Wraps an application so that it sees repaired paths."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "http" and (path := repaired(scope["path"])) != scope["path"]:
            scope = {**scope, "path": path}
        await self._app(scope, receive, send)
