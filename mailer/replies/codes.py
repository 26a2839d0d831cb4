"""Proprietary codes that some providers put into their replies, such as `OFR_416` or `DT:SPM`."""

from __future__ import annotations

import re
from typing import Final

from mailer.replies.rules import Rule
from mailer.replies.verdict import BounceClass as B
from mailer.replies.verdict import Fault
from mailer.replies.verdict import ReplyClass as R

HOUR: Final = 3600.0
DAY: Final = 86_400.0

_CODE: Final = re.compile(
    # Orange and La Poste: OFR_416, OFR004_405, LPN007_510
    r"\b(?P<orange>(?:ofr|lpn)\w{0,3}_(?P<number>\d)\d\d)\b"
    # NetEase (163.com, 126.com, yeah.net): DT:SPM
    r"|(?<![\w:])(?P<netease>(?:hl|mi|rp|dt|wm|rc):[a-z]{3})\b"
    # Comcast: BL000010
    r"|\b(?P<comcast>(?:bl|es|rl|dm)0[01]{5})\b"
)

_UNKNOWN: Final = Rule(B.INVALID_MAILBOX, codes=(550,), action=R.HARD, after_body=True)
_CLOSED: Final = Rule(B.MAILBOX_DISABLED, codes=(550,), action=R.PERMANENT)
_SPAM: Final = Rule(B.CONTENT, codes=(550,), action=R.SPAM)
_FAST: Final = Rule(B.RATE_LIMITED, codes=(421,), action=R.RATE, retry_after_seconds=HOUR)
_LISTED: Final = Rule(B.REPUTATION_BLOCK, codes=(550,), action=R.REPUTATION)
_SENDER: Final = Rule(B.POLICY_REJECT, codes=(550,), fault=Fault.OURS)
_AUTH: Final = Rule(B.AUTH_FAILURE, codes=(550,), action=R.AUTH)

# https://postmaster.orange.fr; the numbers are the same at La Poste. For numbers that
# are not listed, the first digit gives the subject.
_ORANGE: Final = {
    "104": _FAST,
    "105": _FAST,
    "109": _FAST,
    "402": _FAST,
    "405": _SENDER,
    "416": _UNKNOWN,
    "417": Rule(B.MAILBOX_FULL, codes=(552,), action=R.FULL, retry_after_seconds=DAY),
    "420": _CLOSED,
    "426": _CLOSED,
    "505": Rule(B.TRANSIENT_SYSTEM, codes=(421,), action=R.TEMPORARY),
}
_ORANGE_HUNDREDS: Final = {"1": _LISTED, "2": _LISTED, "5": _SPAM, "6": _LISTED}

# https://help.mail.163.com, "退信代码说明"
_NETEASE: Final = {
    "hl:rep": _LISTED,  # many unknown recipients
    "hl:ipb": _LISTED,
    "hl:mep": _LISTED,  # forged sender domains
    "hl:icc": _FAST,  # parallel connections
    "hl:ifc": _FAST,
    "hl:itc": _FAST,
    "mi:cel": _FAST,  # wrong commands
    "mi:dmc": _FAST,  # messages on one connection
    "mi:ccl": _FAST,  # commands on one connection
    "mi:stc": _FAST,  # connections of a sender in a day
    "mi:sfq": _FAST,  # messages of a sender in 15 minutes
    "mi:qmc": _FAST,
    "rp:cel": _FAST,
    "rp:drc": _FAST,  # recipients on one connection
    "rp:ccl": _FAST,
    "rp:trc": _FAST,
    "rp:qrc": _FAST,
    "dt:rbl": _LISTED,
    "wm:bli": _LISTED,  # the address is not allowed to send
    "wm:blu": _SENDER,  # the sender is not allowed to send
    "mi:spb": _SENDER,
    "mi:spf": _AUTH,
    "dt:sum": _SPAM,  # envelope sender and From differ
    "dt:spm": _SPAM,
}

# https://postmaster.comcast.net/mail-error-codes.html
_COMCAST: Final = {"bl": _LISTED, "es": _LISTED, "rl": _FAST, "dm": _AUTH}


def coded_rule(raw: str) -> Rule | None:
    """Return the rule for a provider's own code in a text (lower case), or None."""
    found = _CODE.search(raw)
    if found is None:
        return None
    if code := found["orange"]:
        return _ORANGE.get(code[-3:]) or _ORANGE_HUNDREDS.get(found["number"])
    if code := found["netease"]:
        return _NETEASE.get(code)
    return _COMCAST[found["comcast"][:2]]
