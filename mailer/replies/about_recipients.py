"""Replies about the recipient: the mailbox, its owner, the owner's own filter, the recipient's domain.

Collected from the default texts of Postfix, Exim, Sendmail, qmail, Courier, Exchange, Domino, GroupWise and
the large providers; `providers` has the meanings at single providers.
"""

from __future__ import annotations

from typing import Final

from mailer.replies.rules import Rule
from mailer.replies.verdict import BounceClass as B

FULL: Final = Rule(B.MAILBOX_FULL, (
    "out of space", "exceeds quota", "exceed quota", "exceed*quota", "exceeds*quota", "mailbox*out of",
    "no room in mailbox", "mailbox limit", "box quota", "mailbox full", "mailbox is full",
    "mailbox*is full", "mail box full", "mailbox size limit", "over quota", "overquota",
    "quota exceeded", "quota exceed", "quotaexceeded*", "mapiexceptionshutoffquotaexceeded*",
    "exceeded storage allocation", "exceeded*quota", "exceeded*quotas", "quota has been exceeded",
    "exceeds*mailbox quota", "exceeds allowed size", "mailbox exceed*", "mailbox has exceeded",
    "exceeded*mail*storage", "storage quota", "storage limit", "out of storage",
    "over the allowed quota", "over disk quota", "disk quota", "no space left in user",
    "insufficient disk quota", "account is over", "account is full", "user is over",
    "user has exhausted allowed", "maildir over quota", "userdisk quota", "mailfolder is full",
    "mail folder is full", "inbox is full", "in box is full", "inbox is out of storage",
    "mailbox would exceed maximum allowed storage", "exceeded its disk space limit",
    "not enough storage space", "not enough disk space in the mailbox",
    "would be over the allowed quota", "user disk quota", "user mailbox exceeds",
    "exceeded maximum inbox size", "the message would exceed", "too many messages on this mailbox",
    "too many messages in this mailbox", "too many messages on the server", "too much data stored in",
    "mailbox overflow", "mbox full", "account disk quota", "exceeded allowed storage", "mailboxfull",
    "exceeded*storage", "exhausted*storage", "mail quota", "quota violation", "overdrawn",
    "maxsize*mailbox", "delivery failed over", "full mailbox", "storage*full", "is over*quota",
    "exceeded the maximum*storage", "limit*mailbox*reached", "mailbox*quota",
))  # fmt: skip

DISABLED: Final = Rule(B.MAILBOX_DISABLED, (
    "dormant", "not in use", "account is not active", "account*not active", "account*terminated",
    "mailbox*expired", "subscription*expired", "account*on hold", "account is inactive",
    "is inactive on this", "user is terminated", "deactivated mailbox", "user or domain is disabled",
    "currently suspended", "temporary locked", "temporarily locked", "has been locked",
    "account is currently inactive", "tried to reach is inactive", "account is disabled",
    "account disabled", "account has been disabled", "account*disabled", "user*disabled",
    "mailbox disabled", "mailbox is disabled", "mailbox*disabled", "disabled recipient",
    "recipient*disabled", "account suspended", "account*suspended", "user*suspended",
    "mailbox*suspended", "recipient*suspended", "is suspended", "account is locked", "account locked",
    "account*locked", "user*locked", "user*hangup", "mailbox locked", "mailbox*locked",
    "mailbox is frozen", "mailbox*frozen", "account*frozen", "account inactive", "inactive account",
    "inactive user", "user*inactive", "mailbox*inactive", "inactive on this", "recipient is inactive",
    "recipient address rejected inactive", "account expired", "account has expired", "account*expired",
    "account closed", "account*closed", "mailbox*closed", "been deactivated", "deactivated",
    "recipient suspend", "mailbox currently suspended", "mailbox*not*activated",
    "user is not activated", "hold mail", "mailbox is currently unavailable*disabled",
    "invalid inactive user", "mailbox temporarily disabled", "mailbox unavailable or access denied",
    "vdelivermail account is locked", "recipient account*blocked", "recipient address rejected blocked",
    "blocked due to inactivity", "this account is not allowed*unpaid", "unpaid", "temporarily inactive",
    "boite du destinataire archivee", "domain is inactive", "domain*suspended", "out of service",
    "mailbox is blocked", "mailbox has been blocked", "accountdisabledexception", "disableduser",
))  # fmt: skip

MOVED: Final = Rule(B.MOVED, (
    "left the company", "left the organi*", "no longer employed", "no longer works", "no longer with",
    "no longer working", "user not local", "has moved", "has been replaced by", "please use*instead",
    "new address is", "no longer on server", "no forwarding address", "recipient moved",
    "user has moved", "mailbox has moved", "address has changed", "has changed to",
    "no longer works here", "changed*email address to", "変更されました",
))  # fmt: skip

REFUSED_BY_PERSON: Final = Rule(B.FILTERED, (
    "rejects mail from", "only accepts mail", "only accepts messages", "not on the*allowed",
    "recipient*blocked you", "recipient has blocked", "message filtered", "extended inactivity",
    "bounced address", "restricted sms", "not accepting any mail", "user rules", "user rejected",
    "not found recipient account", "account is protected by", "blocked by the recipient",
    "specific email addresses", "cannot route mail to user", "mail is rejected by recipient*",
    "recipient preferences", "due to recipient preference*", "recipient*refused",
    "rejected by recipient*", "blocked by recipient", "recipient*rejected your", "user*refuses",
    "user refused", "user reject", "user does not accept", "recipient*does not accept", "does not want",
    "not accepting mail from you", "mail filtered", "recipient*filter", "because the recipient",
    "recipient*only accept", "recipient is not accepting", "recipient isn't accepting",
    "sender not on*whitelist", "private*whitelist", "recipient*not accepting messages",
    "user*not accepting messages", "account*not accepting messages", "recipient id refuse",
    "refuse to receive mail", "email preferences of the person", "refuses to accept",
    "restricted to*sender", "delivery not authorized", "recipnotauth", "notauth",
    "user*restricted*receive", "has blocked", "rejected by user", "due to extended inactivity new mail",
    "mailbox unavailable or access", "rule based", "拒否", "mail addresses to refuse",
    "undeliverable address*filter", "user entry", "user domain entry", "customer block list",
    "allowed senders list", "access list denied", "mailbox delivery restricted",
    "rejected by destination domain", "policy rejection on the target address",
    "transport rules rejectmessage", "organization policy", "sender is in the recipient*",
    "user in blacklist", "block rcpt", "block send er", "manually blocked senders", "blocked senders",
))  # fmt: skip

# These words name the recipient, so they count more than the rest of the text.
NO_SUCH_USER: Final = Rule(B.INVALID_MAILBOX, (
    "no such user", "no such recipient", "no such person", "no such mailbox", "no such account",
    "no such local", "no such customer", "user unknown", "unknown user", "user is unknown",
    "unknown recipient", "recipient unknown", "recipient is unknown", "unknown mailbox",
    "mailbox unknown", "addressee unknown", "user not found", "user was not found",
    "recipient not found", "recipient was not found", "mailbox not found", "user does not exist",
    "user doesn't exist", "user not exist", "user not exists", "user don't exist",
    "recipient does not exist", "recipient doesn't exist", "recipient not exist",
    "recipient is not exist", "mailbox does not exist", "mailbox doesn't exist", "mailbox not exist",
    "account does not exist", "account that you tried to reach does not exist", "account doesn't exist",
    "nosuchuser", "invalid recipient", "invalid user", "invalid mailbox", "not a valid recipient",
    "not a valid user", "not a valid mailbox", "not a known user", "not our customer", "not our user",
    "no mailbox here by that name", "recipient address rejected user unknown",
    "recipient address rejected no such user", "recipient address rejected invalid recipient",
    "recipient address rejected not in recipient list", "not in recipient list",
    "recipient mailbox unallocated", "unavailable mail user", "not user of this server",
    "user email address is marked as invalid", "recipnotfound", "exrecipnotfound", "recipientnotfound",
    "local server don't exists that user", "the recipient address*not a valid rfc",
), only_recipient=True)  # fmt: skip

NAMED: Final = (
    "recipient address rejected", "no such address", "bad destination mailbox", "bad destination",
    "your recipient", "the recipient", "recipient email address", "recipient domain", "rcpt to",
    "you tried to reach", "you are trying to contact", "you are trying to reach",
)  # fmt: skip
"""Further words that name the recipient, whatever the text says about it."""

LOCAL_USER: Final = Rule(B.INVALID_MAILBOX, (
    "unknown user:", "email address wasn't found", "address couldn't be found",
    "returned mail user unknown", "name couldn't be found", "invalid final delivery",
    "recipient name is not recognized", "not listed in", "and other recipients in the same domain",
    "no valid recipients for this", "ディレクトリのリストに", "non répertorié", "directorio de domino",
    "no such user in", "was not found in", "unknown local", "local user unknown",
    "not a valid user on this", "ディレクトリには見つかりません",
))  # fmt: skip

# Words that fit any address: about the recipient only if the text mentions nothing of ours.
NOT_THERE: Final = Rule(B.INVALID_MAILBOX, (
    "no valid mailbox", "account is unavailable", "user is unavailable", "no valid user",
    "unable to find*user", "user could not be", "cannot be found", "user not recognized",
    "name not recognized", "address not recognized", "not present in directory",
    "addresses were unknown", "server rejected recipients", "not an active address", "user not active",
    "mailbox is unavailable", "mailbox not present", "mailbox unavaiable", "no mail box",
    "person not found", "is not local", "recipient not ok", "badrcptto", "badrecipientto",
    "validrcptto", "recipient has been denied", "no one at this address", "no longer accepts mail",
    "no longer valid", "wrong or", "spectator does not exist", "missing home directory",
    "user not known", "not in my list", "recipient rejected", "rcpt to rejected", "rcpt is rejected",
    "can't accept user", "not have an account", "the recipient name is not recognized",
    "non répertorié", "user*unknown", "recipient*unknown", "unknown address", "address unknown",
    "unknown account", "unknown email", "unknown virtual", "no such address", "no such email",
    "no such alias", "no user", "no mailbox", "no account", "no recipient", "no local user",
    "no one by that name", "recipient*not found", "mailbox*not found", "address not found",
    "account not found", "account*not found", "couldn't be found", "could not be found", "wasn't found",
    "was not found", "user*does not exist", "user*doesn't exist", "user*not exist", "user*not exists",
    "recipient*does not exist", "recipient*not exist", "mailbox*does not exist", "mailbox*not exist",
    "account*does not exist", "address does not exist", "address*does not exist",
    "address*doesn't exist", "address*not exist", "alias*does not exist", "does not exist",
    "doesn't exist", "does not exists", "non existent", "nonexistent", "not a valid address",
    "not a valid email address", "invalid address", "invalid account", "invalid local", "invalid email",
    "recipient*invalid", "address*invalid", "user invalid", "user*not valid", "mailbox*invalid",
    "no valid recipients", "not known", "doesn't have a*account", "does not have a*account",
    "doesn't have an account", "dosn't exist", "bad address", "bad destination mailbox", "bad mailbox",
    "bad recipient", "bad destination", "bad user", "not listed in*address book",
    "not listed in domino", "not listed in public", "not listed in*directory", "user*not listed",
    "mailbox unavailable", "mailbox currently unavailable", "delivery to*not permitted",
    "undeliverable address", "address error", "adresse d au moins un destinataire invalide",
    "ディレクトリのリストにありません", "not in address book", "not in directory",
    "unable to deliver message to*and other recipients in the same domain", "mailbox*deleted",
    "user*deleted", "account*deleted", "has been deleted", "is no longer", "user*terminated",
    "discontinued", "mailbox not available", "recipient*not available", "user account*unavailable",
    "could not deliver message to mailbox", "please check*recipient", "check the recipient", "vrfy",
    "resolver adr", "user is not*registered", "not registered", "addressee*not found",
    "recipient*not recognized", "user*nonexist*", "no one here", "illegal user", "illegal recipient",
    "illegal alias", "recipient no longer", "cannot find*mailbox", "ambiguous", "not*match*directory",
    "message could not be delivered to mobile", "recipient verification failed",
    "mailbox name not allowed", "mailbox name invalid",
), only_recipient=True)  # fmt: skip

UNKNOWN_DOMAIN: Final = Rule(B.INVALID_DOMAIN, (
    "not hosted here", "domain*not hosted", "domain has no", "no such mail domain",
    "domain is not local", "unrouteable address", "unroutable address",
    "relevant mx records point to non existent", "mail receiving disabled",
    "mail domain mentioned in email address is unknown", "unknown domain name", "server host not found",
    "account or domain may not exist", "all host address lookups failed permanently",
    "indicated no smtp service", "no host found for existing", "no mx found", "reject all mails",
    "nonexistentdomain", "domain doesnt exist", "as the remote domain doesn't exist",
    "domain not exist", "host unknown", "unknown host", "unknown domain", "domain unknown",
    "domain does not exist", "domain*does not exist", "domain doesn't exist", "domain must exist",
    "no such domain", "no such host", "host not found", "host or domain name not found",
    "domain not found", "domain is not reachable", "host does not exist", "couldn't find any host",
    "couldn't find a mail exchanger", "could not find any mail", "no mx record*", "no mail exchanger",
    "invalid domain", "illegal host", "invalid host", "name or service not known", "null mx", "nullmx",
    "does not accept mail", "doesn't accept mail", "doesn't receive email", "domain*not accept",
    "not accepting network messages", "no a aaaa or mx", "unrouteable mail domain",
    "unroutable mail domain", "recipient domain*not", "find the recipient domain",
    "mail server*not found", "bad destination system", "domain name not found", "host*does not exist",
    "host*not found", "domain*not found", "does not like*domain", "destination domain*not exist",
    "all relevant mx records point to non existent hosts", "unknown mail domain",
    "smtp protocol returned a permanent error", "mail domain*unknown", "no route for host",
    "server does not accept mail", "nxdomain", "infodomainnonexistent",
))  # fmt: skip
