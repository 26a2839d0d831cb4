"""Check images, and messages that consist only of images."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from lxml import etree

from mailer.rendering.lint.findings import Finding
from mailer.rendering.lint.mail import Mail

LEAST_TEXT_CHARACTERS: Final = 500


def _images(mail: Mail) -> Iterator[etree._Element]:
    return (element for element in mail.elements if element.tag == "img")


def _is_pixel(image: etree._Element) -> bool:
    return image.get("width") == "1" and image.get("height") == "1"


def image_alt(mail: Mail) -> Iterator[Finding]:
    """Find images without alternative text."""
    for image in _images(mail):
        if not (image.get("alt") or "").strip() and not _is_pixel(image):
            yield mail.finding("image-alt", f"{_name(image, mail)} has no alternative text", at="![](")


def image_width(mail: Mail) -> Iterator[Finding]:
    """Find images that Outlook would show at full size."""
    for image in _images(mail):
        if not re.fullmatch(r"[1-9][0-9]*%?", (image.get("width") or "").strip()):
            yield mail.finding("image-width", f"{_name(image, mail)} has no width", at=_source(image))


def image_source(mail: Mail) -> Iterator[Finding]:
    """Find images that only the author's machine has."""
    carried = {f"cid:{image.content_id}" for image in mail.edition.images}
    for image in _images(mail):
        source = _source(image)
        known = source in carried if source.startswith("cid:") else _is_web(source)
        if not known and not source.lower().startswith("data:"):
            yield mail.finding("image-source", f"'{source[:80]}' cannot be reached", at=source)


def image_format(mail: Mail) -> Iterator[Finding]:
    """Find formats that many email clients do not show."""
    for image in _images(mail):
        path = re.split(r"[?#]", _source(image))[0] if _is_web(_source(image)) else ""
        found = re.search(r"(?i)\.(svgz?|webp|avif|heic|tiff?)$", path)
        inside = re.match(r"(?i)data:image/(svg|webp|avif)", _source(image))
        if kind := (found or inside):
            yield mail.finding(
                "image-format", f"{kind[1].upper()} is not shown everywhere", at=_source(image)
            )
    if any(element.tag == "svg" for element in mail.elements):
        yield mail.finding("image-format", "the HTML contains an <svg> drawing", at="<svg")


def data_image(mail: Mail) -> Iterator[Finding]:
    """Find images that Gmail and Outlook do not show, and that make the HTML large."""
    for image in _images(mail):
        if _source(image).lower().startswith("data:"):
            yield mail.finding("data-image", "an image is embedded in the HTML", at=_source(image)[:30])


def image_only(mail: Mail) -> Iterator[Finding]:
    """Find messages that are empty with images turned off."""
    images = [image for image in _images(mail) if not _is_pixel(image)]
    characters = len(mail.shown_text)
    if images and characters < LEAST_TEXT_CHARACTERS:
        many = "an image" if len(images) == 1 else f"{len(images)} images"
        yield mail.finding("image-only", f"{many} and only {characters} characters of text")


def _source(image: etree._Element) -> str:
    return (image.get("src") or "").strip()


def _is_web(source: str) -> bool:
    return bool(re.match(r"(?i)https?://[^/]", source))


def _name(image: etree._Element, mail: Mail) -> str:
    source = _source(image)
    if source.startswith("cid:"):
        return "an image"
    return f"'{source.removeprefix(mail.public_url)[:60]}'" if source else "an image"


RULES: Final = (image_alt, image_width, image_source, image_format, data_image, image_only)
