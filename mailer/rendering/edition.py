"""The frozen rendering of an issue, which is stored and sent by every run."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class InlineImage:
    """A local image of an issue, frozen with it.

    Messages carry it (RFC 2392 Content-ID, RFC 2387 multipart/related), or readers load it from the
    archive.
    """

    content_id: str
    media_type: str
    content: bytes

    @property
    def name(self) -> str:
        """The file name under which it is published: the hash of its content and a suffix."""
        kind = self.media_type.rpartition("/")[2].replace("jpeg", "jpg")
        return f"{hashlib.sha256(self.content).hexdigest()[:32]}.{kind}"


@dataclass(frozen=True, slots=True)
class Edition:
    """One issue, rendered once. Its templates contain Jinja only where subscribers differ.

    `html` is the inlined document (autoescaped when filled); `text`, `subject` and `preheader` are
    plain text. All of them can use these names: `subscriber` (`name`, `email`, `tags`, and its
    attributes), and `urls` (`unsubscribe`, `preferences`, `view`, `click`, `open`). A tracked link
    reads `{{ urls.click }}/N`, where N is its index in `links`.
    """

    slug: str
    title: str
    subtitle: str
    author: str
    date: str
    """ISO 8601 calendar date, or empty."""
    number: int | None
    tags: tuple[str, ...]
    subject: str
    preheader: str
    html: str
    text: str
    links: tuple[str, ...]
    images: tuple[InlineImage, ...]
    made_of: dict[str, str]
    """Digests of templates and source, and the versions of libraries."""
    words: int = 0
    """The number of words in title, subtitle and body."""
    reading_time: str = ""
    """The value of `{{ reading_time }}`."""
    page: str = ""
    """The body as HTML for the archive, a template with the same names."""
    images_published: bool = False
    """Whether messages omit the images and `html` loads them from the archive."""
    language: str = ""
    """The language of the issue (BCP 47); empty in editions that were frozen before this was kept."""

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal: the edition's identity."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces, images in base64."""
        fields = asdict(self)
        for image in fields["images"]:
            image["content"] = base64.b64encode(image["content"]).decode("ascii")
        if not self.language:
            # Older editions keep their digest.
            del fields["language"]
        return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, stored: str) -> Edition:
        """Return the edition that `to_json` wrote."""
        fields: dict[str, Any] = json.loads(stored)
        fields["images"] = tuple(
            InlineImage(i["content_id"], i["media_type"], base64.b64decode(i["content"]))
            for i in fields["images"]
        )
        fields["tags"], fields["links"] = tuple(fields["tags"]), tuple(fields["links"])
        return cls(**fields)
