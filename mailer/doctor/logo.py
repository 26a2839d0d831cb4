"""The profile of SVG that BIMI asks for: SVG Tiny Portable/Secure (draft-svg-tiny-ps-abrotman)."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from typing import Final

from lxml import etree

MOST_OCTETS: Final = 32_768
"""The largest logo, compressed or not, that all providers show."""
_SVG: Final = "{http://www.w3.org/2000/svg}"
_LINK: Final = "{http://www.w3.org/1999/xlink}href"
_FORBIDDEN: Final = frozenset({
    "script", "handler", "image", "foreignObject", "a", "audio", "video", "animation", "iframe",
    "animate", "animateColor", "animateMotion", "animateTransform", "set", "discard",
})  # fmt: skip
_OUTSIDE: Final = re.compile(r"url\(\s*['\"]?(?!#)")
_NUMBER: Final = re.compile(r"[\s,]+")


def faults(content: bytes) -> Iterator[str]:
    """Yield the reasons why an SVG file would not be shown as a logo, most important first."""
    if content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(MOST_OCTETS + 1)
        except (OSError, EOFError):
            yield "it is compressed, but not by gzip"
            return
    if len(content) > MOST_OCTETS:
        yield f"it is larger than {MOST_OCTETS // 1024} KB"
        return
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        yield f"it is not XML: {error.msg}"
        return
    if root.tag != f"{_SVG}svg":
        yield "its first element is not <svg> in the namespace of SVG"
        return
    if root.getroottree().docinfo.internalDTD is not None:
        yield "it has a DOCTYPE"
    yield from _of_root(root)
    yield from _of_elements(root)


def _of_root(root: etree._Element) -> Iterator[str]:
    if root.get("baseProfile") != "tiny-ps" or root.get("version") != "1.2":
        yield 'its <svg> lacks version="1.2" baseProfile="tiny-ps"'
    title = root.find(f"{_SVG}title")
    if title is None or not (title.text or "").strip():
        yield "it has no <title>"
    if "x" in root.attrib or "y" in root.attrib:
        yield "its <svg> must not have x or y"
    box = _NUMBER.split((root.get("viewBox") or "").strip())
    try:
        _, _, width, height = (float(number) for number in box)
    except ValueError:
        yield "its <svg> has no viewBox with four numbers"
    else:
        if width != height or not width > 0:
            yield f"it is not square: {width:g} by {height:g}"


def _of_elements(root: etree._Element) -> Iterator[str]:
    elements = [one for one in root.iter() if isinstance(one.tag, str)]
    found = {etree.QName(one).localname for one in elements} & _FORBIDDEN
    if found:
        yield f"it contains <{'>, <'.join(sorted(found))}>"
    attributes = [(str(name), str(value)) for one in elements for name, value in one.attrib.items()]
    if any(name.startswith("on") for name, _ in attributes):
        yield "it contains event handlers"
    links = [value for name, value in attributes if name in (_LINK, "href")]
    if any(not value.startswith("#") for value in links) or any(_OUTSIDE.search(v) for _, v in attributes):
        yield "it refers to something outside the file"
