"""The frozen rendering of an issue, which is stored and sent by every run."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


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
class ABTest:
    """How an A/B test of several arms is decided."""

    share: float = 0.2
    """The share of the audience that takes part, all arms together."""
    wait_seconds: float = 14_400.0
    """How long to wait for clicks after the last message of the test."""
    by: Literal["clicks", "opens"] = "clicks"
    hold: bool = False
    """Whether a person decides."""


@dataclass(frozen=True, slots=True)
class Resend:
    """An issue that repeats another one, for its readers who did not react."""

    of: str
    """The slug of the other issue, or the number that it begins with."""
    without: Literal["clicks", "opens"] = "clicks"


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
    arms: tuple[Edition, ...] = ()
    """The arms B, C and D of an A/B test; this edition is arm A. All have the same `slug` and `links`."""
    test: ABTest | None = None
    """How the test is decided; None if there are no other arms."""

    resend: Resend | None = None
    """The issue that this one repeats."""
    step: bool = False
    """Whether it is a step of a sequence, which cannot be sent as an issue."""

    def arm(self, number: int) -> Edition:
        """Return an arm as an edition of its own: 0 is A."""
        return replace(self, arms=(), test=None) if number == 0 else self.arms[number - 1]

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hexadecimal: the edition's identity."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces, images in base64."""
        return json.dumps(self._fields(), ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    def _fields(self) -> dict[str, Any]:
        fields = asdict(replace(self, arms=()))
        for image in fields["images"]:
            image["content"] = base64.b64encode(image["content"]).decode("ascii")
        # Editions without these, which include the older ones, keep their digest.
        if not self.language:
            del fields["language"]
        if self.resend is None:
            del fields["resend"]
        if not self.step:
            del fields["step"]
        if self.arms:
            fields["arms"] = [arm._fields() for arm in self.arms]
        else:
            del fields["arms"], fields["test"]
        return fields

    @classmethod
    def from_json(cls, stored: str) -> Edition:
        """Return the edition that `to_json` wrote."""
        return cls._of(json.loads(stored))

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> Edition:
        fields["images"] = tuple(
            InlineImage(i["content_id"], i["media_type"], base64.b64decode(i["content"]))
            for i in fields["images"]
        )
        fields["tags"], fields["links"] = tuple(fields["tags"]), tuple(fields["links"])
        if "arms" in fields:
            fields["arms"] = tuple(map(cls._of, fields["arms"]))
            fields["test"] = ABTest(**fields["test"])
        if "resend" in fields:
            fields["resend"] = Resend(**fields["resend"])
        return cls(**fields)
