"""TLS for the connections that we open: to relays, mailboxes and web servers."""

from __future__ import annotations

import ssl


def client_context(*, verify: bool = True) -> ssl.SSLContext:
    """Return a TLS context that trusts the system's certificates, or any certificate without `verify`."""
    context = ssl.create_default_context()
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
