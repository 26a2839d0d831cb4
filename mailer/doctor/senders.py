"""Providers of relays: what their customers publish for SPF."""

from __future__ import annotations

from typing import Final

_INCLUDES: Final = {
    "amazonaws.com": "amazonses.com",
    "sendgrid.net": "sendgrid.net",
    "mailgun.org": "mailgun.org",
    "postmarkapp.com": "spf.mtasv.net",
    "sparkpostmail.com": "sparkpostmail.com",
    "mailjet.com": "spf.mailjet.com",
    "brevo.com": "spf.brevo.com",
    "sendinblue.com": "spf.brevo.com",
    "resend.com": "amazonses.com",
    "mailersend.net": "_spf.mailersend.net",
    "mandrillapp.com": "spf.mandrillapp.com",
    "mailtrap.io": "_spf.smtp.mailtrap.live",
    "scaleway.com": "_spf.tem.scaleway.com",
    "gmail.com": "_spf.google.com",
    "google.com": "_spf.google.com",
    "office365.com": "spf.protection.outlook.com",
    "fastmail.com": "spf.messagingengine.com",
    "migadu.com": "spf.migadu.com",
}


def include_of(host: str) -> str:
    """Return the domain that SPF records include for a provider's relay; empty for other hosts.

    Such relays send from other addresses than they receive at.
    """
    parts = host.lower().rstrip(".").split(".")
    return _INCLUDES.get(".".join(parts[-2:]), "")
