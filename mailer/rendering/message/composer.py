"""Compose an `Edition` for a `Recipient`: the final octets of one message, and its envelope.

Text that all subscribers share is encoded once, when the `Composer` is made; only the slots are encoded
for each subscriber. Composing the same edition for the same recipient and time gives the same octets, on any
machine, so a retry repeats what the first try said.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from jinja2 import TemplateError, UndefinedError
from jinja2.utils import missing
from markupsafe import escape
from msgspec import Struct

from mailer.address import Envelope, check_header_text
from mailer.config import Newsletter
from mailer.errors import AddressError, ConfigError, RecipientError, SourceError
from mailer.rendering.edition import Edition, InlineImage
from mailer.rendering.message import headers, quoted_printable
from mailer.rendering.recipient import Recipient
from mailer.rendering.templating.sandbox import URL_MARK, Root, Sandbox
from mailer.tokens import Signer, Subject

ISSUE_URLS: Final = ("unsubscribe", "preferences", "view", "click", "open")
LETTER_URLS: Final = ("confirm", "unsubscribe", "preferences")
# The longest output of one expression: subscribers' fields may contain anything.
MAX_SLOT_CHARACTERS: Final = 20_000


class Dkim(Struct, frozen=True):
    """How messages are signed (RFC 6376).

    `relaxed_lines` canonicalises whole lines of a body. The result for joined lines is the joined results,
    so the parts that all messages share are canonicalised once. `sign_digest` takes the headers and the
    SHA-256 of the canonical body, and returns the signature fields that go before the headers.
    """

    relaxed_lines: Callable[[bytes], bytes]
    sign_digest: Callable[[bytes, bytes], bytes]


class Message(Struct, frozen=True):
    """What SMTP transmits. `parts` are final: CRLF, no line beginning with a dot in the body.

    Most of them are shared with other messages, so they are joined only where the message leaves.
    """

    parts: tuple[bytes, ...]
    envelope: Envelope
    message_id: str

    @property
    def content(self) -> bytes:
        """The whole message."""
        return b"".join(self.parts)


class _Shared(Struct, frozen=True):
    """An unchanging piece of a template, encoded, with places for links."""

    octets: list[bytes]
    urls: tuple[str, ...]
    """The link for each odd place of `octets`."""

    @classmethod
    def of(cls, static: str) -> _Shared:
        texts = URL_MARK.split(static)
        octets = [b"" if at % 2 else quoted_printable.encode(text) for at, text in enumerate(texts)]
        return cls(octets, tuple(texts[1::2]))


class _Compiled(Struct, frozen=True):
    """The templates of an edition, compiled, and the pieces that all its messages share."""

    sandbox: Sandbox
    subject: Root
    text: Root
    html: Root
    shared: dict[str, _Shared]


# An issue has several composers: for the check while it is built, for lint, for a sample, and for sending.
@lru_cache(maxsize=8)
def _compiled(
    slug: str, language: str, subject: str, text: str, html: str, url_names: tuple[str, ...]
) -> _Compiled:
    """Compile the templates of an edition, whose `urls` have these names."""
    sandbox = Sandbox(slug, language=language)
    shared: dict[str, _Shared] = {}

    def root(source: str, part: str, names: tuple[str, ...]) -> Root:
        fill, statics = sandbox.compile(source, part, url_names=names, autoescape=part == "html")
        shared.update((static, _Shared.of(static)) for static in statics)
        return fill

    return _Compiled(
        sandbox,
        subject=root(subject, "subject", ()),
        text=root(_ended(text), "text", url_names),
        html=root(_ended(html), "html", url_names),
        shared=shared,
    )


class Draft(Struct, frozen=True):
    """A message without its signature; most pieces of its body are shared with other messages."""

    head: bytes
    body: list[bytes]
    envelope: Envelope
    message_id: str

    def message(self, signature: bytes) -> Message:
        """Return the finished message; `signature` is the fields that go before the others."""
        return Message((signature, self.head, b"\r\n", *self.body), self.envelope, self.message_id)


class Composer:
    """Composes one edition for any number of recipients; made once per run.

    `public_url` is the address of the pages, `bounce_domain` the domain of the envelope sender,
    `unsubscribe_address` the mailbox for `mailto:` requests. `dkim` signs. `segment`
    appears in Feedback-ID. An issue that is not `public` has no page in the archive: `urls.view` is then
    the recipient's own link. A `letter` is transactional (confirmation, goodbye): it is marked as automatic
    (RFC 3834) and has no List-Unsubscribe. Letters and samples have `issue_id` 0; their Message-ID contains
    the time, because one reader may get several.

    Raises `SourceError` for a template that is broken or not allowed.
    """

    def __init__(
        self,
        edition: Edition,
        *,
        issue_id: int,
        newsletter: Newsletter,
        public_url: str,
        bounce_domain: str,
        unsubscribe_address: str,
        signer: Signer,
        dkim: Dkim | None = None,
        segment: str = "all",
        public: bool = True,
        letter: bool = False,
    ) -> None:
        if letter and issue_id:
            raise ValueError("a letter belongs to no issue")
        self._issue_id = issue_id
        self._letter = letter
        self._signer = signer
        self._dkim = dkim
        self._slug = edition.slug
        self._public_url = _safe_in_html(public_url).rstrip("/")
        self._archive_url = f"{self._public_url}/archive/{quote(edition.slug, safe='')}" if public else ""
        self._bounce_domain = bounce_domain
        self._mailto = headers.mailto(unsubscribe_address)
        self._author_domain = newsletter.author_domain
        self._author_smtputf8 = not newsletter.author_address.isascii()
        compiled = _compiled(
            edition.slug,
            edition.language or newsletter.language,
            edition.subject,
            edition.text,
            edition.html,
            LETTER_URLS if letter else ISSUE_URLS,
        )
        self._sandbox, self._shared = compiled.sandbox, compiled.shared
        self._subject, self._text, self._html = compiled.subject, compiled.text, compiled.html
        self._marked_urls = {name for shared in self._shared.values() for name in shared.urls}
        url_fields = {name for owner, name in self._sandbox.fields if owner == "urls"}
        self._needs_confirmation = "confirm" in self._marked_urls | url_fields
        self._needs_urls = bool(url_fields)
        self.uses_tags = ("subscriber", "tags") in self._sandbox.fields
        """Whether a template asks for the subscriber's tags."""
        self._fixed_subject = _fixed_subject(edition.subject, edition.slug)
        author = newsletter.author_name or newsletter.name
        self._from = headers.mailbox("From", author, newsletter.author_address)
        self._after_id = _list_headers(newsletter, edition.slug, segment, letter=letter)
        boundary = "=_" + hashlib.sha256(edition.digest.encode()).hexdigest()[:32]
        self._fixed = _mime_headers(boundary, newsletter.reply_to)
        self._opening = _part_opening(boundary, "text/plain; charset=utf-8")
        self._between, self._closing = _around_html(
            boundary, () if edition.images_published else edition.images
        )
        self._relaxed = {} if dkim is None else self._canonical(dkim)
        self._around_link: dict[int, list[tuple[str, list[bytes]]]] = {}
        self._date: tuple[datetime | None, bytes] = (None, b"")
        self._last_subject: tuple[str, bytes] = ("", b"")

    def compose(self, recipient: Recipient, at: datetime) -> Message:
        """Return the message for one recipient, dated `at` (aware; whole seconds are used).

        Raises what `draft` raises.
        """
        draft = self.draft(recipient, at)
        return draft.message(self.signature(draft))

    def signature(self, draft: Draft) -> bytes:
        """Return the signature of a draft, or nothing."""
        return b"" if self._dkim is None else self._dkim.sign_digest(draft.head, self.body_digest(draft))

    def body_digest(self, draft: Draft) -> bytes:
        """Return the SHA-256 of the canonical body of a draft. Raises `ValueError` if nothing is signed."""
        if self._dkim is None:
            raise ValueError("messages are not signed")
        relaxed, relax = self._relaxed, self._dkim.relaxed_lines
        # Our bodies never end in an empty line, the only case in which lines depend on each other.
        return hashlib.sha256(b"".join([relaxed.get(piece) or relax(piece) for piece in draft.body])).digest()

    def draft(self, recipient: Recipient, at: datetime) -> Draft:
        """Return the message for one recipient, unsigned.

        Raises `RecipientError` if this subscriber's data cannot fill in the templates: a field without
        a default is missing, or a value has the wrong type or is far too long.
        """
        subject = Subject(self._issue_id, recipient.subscriber_id)
        try:
            address = headers.recipient_address(recipient.email)
        except AddressError as error:
            raise RecipientError(error.message, field="subscriber.email") from error
        link, path = self._signer.link(subject), self._signer.return_path(subject)
        values = self._values(recipient, self._urls(subject, link) if self._needs_urls else {})
        try:
            subject_line = self._fixed_subject or self._subject_line("".join(self._subject(values)))
            encoded_urls = self._encoded_urls(subject, link)
            body = [self._opening]
            self._fill(self._text, values, encoded_urls, body)
            body.append(self._between)
            self._fill(self._html, values, encoded_urls, body)
            body.append(self._closing)
        except UndefinedError as error:
            name = self._sandbox.field_of(str(error))
            raise RecipientError(
                f"{self._slug}: '{name}' is missing for subscriber {recipient.subscriber_id}",
                field=name,
                remedy=f'write {{{{ {name} | default("…") }}}} or fill in the field',
            ) from error
        except (TemplateError, TypeError, ValueError, ArithmeticError) as error:
            raise RecipientError(
                f"{self._slug}: the data of subscriber {recipient.subscriber_id} does not fit: {error}",
                field="subscriber",
            ) from error
        local = f"{path}.{int(at.timestamp() * 1_000_000):x}" if self._issue_id == 0 else path
        message_id = f"<{local}@{self._author_domain}>"
        head = [
            self._dated(at),
            self._from,
            headers.mailbox("To", recipient.name, address),
            subject_line,
            f"Message-ID: {message_id}\r\n".encode("ascii"),
            self._after_id,
            b"" if self._letter else self._list_unsubscribe(link),
            self._fixed,
        ]
        return Draft(
            b"".join(head),
            body,
            Envelope(
                f"b.{path}@{self._bounce_domain}", address, self._author_smtputf8 or not address.isascii()
            ),
            message_id,
        )

    def _canonical(self, dkim: Dkim) -> dict[bytes, bytes]:
        """Return the canonical form of each piece of a body that messages share."""
        pieces = [octets for shared in self._shared.values() for octets in shared.octets]
        return {
            piece: dkim.relaxed_lines(piece)
            for piece in (*pieces, self._opening, self._between, self._closing)
        }

    def _fill(
        self, root: Root, values: Mapping[str, object], urls: Mapping[str, bytes], body: list[bytes]
    ) -> None:
        """Add the pieces of a part to `body`; `urls` are the reader's links, encoded."""
        shared_pieces = self._shared
        for piece in root(values):
            if (shared := shared_pieces.get(piece)) is not None:
                octets = shared.octets
                if shared.urls:
                    octets = octets.copy()
                    octets[1::2] = [urls[name] for name in shared.urls]
                body += octets
            elif len(piece) > MAX_SLOT_CHARACTERS:
                raise ValueError(f"a value is longer than {MAX_SLOT_CHARACTERS} characters")
            else:
                body.append(quoted_printable.encode(piece))

    def _urls(self, subject: Subject, link: str) -> dict[str, str]:
        url = self._public_url
        urls = {"unsubscribe": f"{url}/u/{link}", "preferences": f"{url}/p/{link}"}
        if self._letter:
            if self._needs_confirmation:
                urls["confirm"] = f"{url}/confirm/{self._signer.confirmation(subject)}"
            return urls
        urls["view"] = self._archive_url or f"{url}/v/{link}"
        urls["click"] = f"{url}/c/{link}"
        urls["open"] = f"{url}/o/{link}.gif"
        return urls

    def _encoded_urls(self, subject: Subject, link: str) -> dict[str, bytes]:
        """Return the links that templates write out unchanged, in quoted-printable."""
        around = self._around_link.get(len(link))
        if around is None:
            around = self._around_link[len(link)] = self._encoded_around(subject, len(link))
        if not around:
            urls = self._urls(subject, link)
            return {name: quoted_printable.encode(urls[name]) for name in self._marked_urls}
        octets = link.encode("ascii")
        return {name: octets.join(ends) for name, ends in around}

    def _encoded_around(self, subject: Subject, length: int) -> list[tuple[str, list[bytes]]]:
        """Return what is before and after the token in each encoded link, for tokens of this length.

        Hexadecimal digits need no encoding, so one token is like another. Returns nothing if a line breaks
        inside the token, or if there is more than one kind of token.
        """
        token = "~" * length
        if self._letter:
            return []
        urls = self._urls(subject, token)
        around = []
        for name in self._marked_urls:
            ends = quoted_printable.encode(urls[name]).rsplit(token.encode("ascii"), 1)
            if len(ends) == 1 and token in urls[name]:
                return []
            around.append((name, ends))
        return around

    def _values(self, recipient: Recipient, urls: Mapping[str, str]) -> dict[str, object]:
        values: dict[str, object] = {}
        for (owner, name), variable in self._sandbox.fields.items():
            value: object
            if owner == "urls":
                value = urls[name]
            elif name == "name":
                value = recipient.name
            elif name == "email":
                value = recipient.email
            elif name == "tags":
                value = recipient.tags
            else:
                value = recipient.attributes.get(name)
            values[variable] = missing if value is None else value
        return values

    def _dated(self, at: datetime) -> bytes:
        # Read once: another thread may use this composer too.
        known, line = self._date
        if known != at:
            if at.tzinfo is None:
                raise ValueError("the time of a message must be aware")
            line = f"Date: {format_datetime(at)}\r\n".encode("ascii")
            self._date = (at, line)
        return line

    def _subject_line(self, subject: str) -> bytes:
        known, line = self._last_subject
        if known != subject:
            line = headers.unstructured("Subject", subject)
            self._last_subject = (subject, line)
        if not subject.strip():
            raise ValueError("the subject is empty")
        return line

    def _list_unsubscribe(self, link: str) -> bytes:
        # The token is hexadecimal, so it needs no encoding in a URL.
        return (
            f"List-Unsubscribe: <{self._public_url}/u/{link}>,\r\n <{self._mailto}?subject={link}>\r\n"
        ).encode("ascii")


def list_id(newsletter: Newsletter) -> str:
    """Return the List-Id (RFC 2919): the configured one, or the name's letters under the author's domain."""
    if newsletter.list_id:
        return newsletter.list_id
    label = re.sub(r"[^a-z0-9]+", "-", newsletter.name.lower()).strip("-")[:63].strip("-")
    return f"{label or 'newsletter'}.{newsletter.author_domain}"


def _safe_in_html(public_url: str) -> str:
    if str(escape(public_url)) != public_url or not public_url.isascii():
        raise ConfigError(
            f"config.toml: [web] public_url {public_url!r} contains characters that are not safe in HTML"
        )
    return public_url


def _list_headers(newsletter: Newsletter, slug: str, segment: str, *, letter: bool) -> bytes:
    if letter:
        return b"Auto-Submitted: auto-generated\r\n"
    identifier = list_id(newsletter)
    if len(identifier) > 255:
        raise SourceError("config.toml: [newsletter] list_id is longer than 255 octets (RFC 2919)")
    # Gmail expects a constant sender ID of 5 to 15 characters at the end, and nothing about the reader.
    sender = re.sub(r"[^a-z0-9]", "", newsletter.author_domain)[:15]
    sender = sender if len(sender) >= 5 else f"{sender}newsletter"[:15]
    labels = [re.sub(r"[^A-Za-z0-9._-]+", "-", label)[:60] for label in (slug, segment)]
    return (
        f"List-Id: <{identifier}>\r\nFeedback-ID: {labels[0]}:{labels[1]}:weekly:{sender}\r\n"
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    ).encode("ascii")


def _mime_headers(boundary: str, reply_to: str) -> bytes:
    return (headers.mailbox("Reply-To", "", reply_to) if reply_to else b"") + (
        f'MIME-Version: 1.0\r\nContent-Type: multipart/alternative;\r\n boundary="{boundary}"\r\n'
    ).encode("ascii")


def _part_opening(boundary: str, content_type: str, encoding: str = "quoted-printable") -> bytes:
    return (
        f"--{boundary}\r\nContent-Type: {content_type}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    ).encode("ascii")


def _around_html(boundary: str, images: tuple[InlineImage, ...]) -> tuple[bytes, bytes]:
    """Return the bytes before and after the HTML; images make it multipart/related (RFC 2387)."""
    html = "text/html; charset=utf-8"
    if not images:
        return b"\r\n" + _part_opening(boundary, html), f"\r\n--{boundary}--\r\n".encode("ascii")
    inner = boundary + "_r"
    before = (
        f'\r\n--{boundary}\r\nContent-Type: multipart/related; type="text/html";\r\n'
        f' boundary="{inner}"\r\n\r\n'
    ).encode("ascii") + _part_opening(inner, html)
    after = [b"\r\n"]
    for image in images:
        for text in (image.content_id, image.media_type):
            if not re.fullmatch(r"[\x21-\x3b=\x3f-\x7e]+", text):
                raise SourceError(f"'{text[:80]!r}' cannot identify an image in a message")
        after += [
            f"--{inner}\r\nContent-Type: {image.media_type}\r\nContent-Transfer-Encoding: base64\r\n"
            f"Content-ID: <{image.content_id}>\r\nContent-Disposition: inline\r\n\r\n".encode("ascii"),
            base64.encodebytes(image.content).replace(b"\n", b"\r\n"),
        ]
    after.append(f"--{inner}--\r\n\r\n--{boundary}--\r\n".encode("ascii"))
    return before, b"".join(after)


def _fixed_subject(subject: str, place: str) -> bytes:
    """Return the header of a subject that is the same for everyone; nothing if it is not, or is blank.

    Raises `SourceError` if the subject cannot be a header.
    """
    if "{" in subject:
        return b""
    try:
        check_header_text(subject, field="subject")
    except AddressError as error:
        raise SourceError(f"{place}: {error.message}", remedy="take it out of the issue") from error
    return headers.unstructured("Subject", subject) if subject.strip() else b""


def _ended(text: str) -> str:
    return text if text.endswith("\n") else text + "\n"
