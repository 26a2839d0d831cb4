"""Turn SVG drawings into PNG, which every email client shows."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lxml import etree
from msgspec import Struct

from mailer.errors import SourceError

MAX_OCTETS: Final = 5_000_000
"""Of the SVG itself, uncompressed."""
_MAX_SECONDS: Final = 15
_PROCESS: Final = Path(__file__).with_name("drawing_process.py")
_SVG: Final = "{http://www.w3.org/2000/svg}"
_PIXELS: Final = {
    "": 1.0, "px": 1.0, "pt": 96 / 72, "pc": 16.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4,
    "em": 16.0, "rem": 16.0, "ex": 8.0,
}  # fmt: skip
_LENGTH: Final = re.compile(r"\s*\+?([0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})\s*([a-z]{0,3})\s*")
_EMBEDDED: Final = re.compile(r"(?i)data:image/(png|jpe?g|gif|webp)[;,]")
_ANIMATED: Final = frozenset({"animate", "animateColor", "animateMotion", "animateTransform", "set"})
_ANIMATED_STYLE: Final = re.compile(r"(?i)@(-webkit-)?keyframes\b|(?<![\w-])animation(-name)?\s*:")
_UNKNOWN_STYLE: Final = re.compile(
    r"(?i)(?<![\w-])(var|calc|env|min|max|clamp|oklab|oklch|lab|lch|color|color-mix|light-dark)\("
)
_OUTSIDE_STYLE: Final = re.compile(r"""(?i)@import\b|url\(\s*["']?\s*(?!["']?\s*(?:#|data:)|["'\s])""")


class Drawing(Struct, frozen=True):
    """An SVG that is safe to draw, and its size in CSS pixels."""

    svg: bytes
    width: float
    height: float
    name: str

    def png(self, width: int) -> bytes:
        """Draw it `width` pixels wide. Raises `SourceError` if that takes too much time or memory."""
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(_PROCESS), str(width)],
                input=self.svg,
                capture_output=True,
                timeout=_MAX_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise self._too_complex() from error
        if done.returncode:
            raise self._too_complex()
        return done.stdout

    def _too_complex(self) -> SourceError:
        return SourceError(f"{self.name} is too complex to draw", remedy="export it as PNG")


def parse_drawing(content: bytes, name: str) -> Drawing:
    """Return the drawing in an SVG or SVGZ file.

    Links and scripts are dropped: an image in a web page has none either. Raises `SourceError`, beginning
    with `name`, for what a PNG cannot show as a browser would: animations, text (whose fonts differ between
    machines), files outside the SVG and a few functions of CSS.
    """
    root = _parsed(_unpacked(content, name), name)
    for element in list(root.iter(etree.Element)):
        _check(element, name)
    width, height = _size(root, name)
    root.set("width", f"{width:g}")
    root.set("height", f"{height:g}")
    return Drawing(etree.tostring(root, encoding="utf-8"), width, height, name)


def _unpacked(content: bytes, name: str) -> bytes:
    if content.startswith(b"\x1f\x8b"):
        try:
            content = zlib.decompressobj(wbits=31).decompress(content, MAX_OCTETS + 1)
        except zlib.error as error:
            raise SourceError(f"{name} is damaged", remedy="export it again") from error
    if len(content) > MAX_OCTETS:
        raise SourceError(
            f"{name} is larger than {MAX_OCTETS // 1_000_000} MB of SVG", remedy="export it as PNG"
        )
    return content


def _parsed(content: bytes, name: str) -> etree._Element:
    if b"<?xml-stylesheet" in content:
        raise SourceError(
            f"{name} has a style sheet outside the file", remedy="put it in a <style> element, or export PNG"
        )
    # lxml replaces only entities that the file itself defines; libxml2 bounds how much they may grow.
    parser = etree.XMLParser(no_network=True, load_dtd=False, remove_comments=True, remove_pis=True)
    try:
        root = etree.parse(io.BytesIO(content), parser).getroot()
    except etree.XMLSyntaxError as error:
        raise SourceError(f"{name} is not valid SVG: {error.msg}", remedy="export it again") from error
    if root.tag != f"{_SVG}svg":
        raise SourceError(
            f"{name} is not an SVG drawing",
            remedy='its root must be <svg xmlns="http://www.w3.org/2000/svg">',
        )
    return root


def _check(element: etree._Element, name: str) -> None:
    tag = str(element.tag).removeprefix(_SVG)
    place = f"{name}, line {element.sourceline}"
    if tag in _ANIMATED:
        raise _animated(place)
    if tag == "text" and "".join(_texts(element)).strip():
        raise SourceError(
            f"{place}: the drawing contains text, whose fonts differ between machines",
            remedy="convert the text to paths in your drawing program, or export the drawing as PNG",
        )
    parent = element.getparent()
    if tag == "foreignObject" and (parent is None or parent.tag != f"{_SVG}switch"):
        raise SourceError(f"{place}: the drawing contains HTML", remedy="export the drawing as PNG")
    if tag == "style":
        _check_style("".join(_texts(element)), place)
    for attribute, value in element.attrib.items():
        if etree.QName(attribute).localname == "href":
            _check_reference(element, str(attribute), str(value), place)
        elif attribute == "style":
            _check_style(str(value), place)
        elif "}" not in str(attribute):
            _check_style(f"{attribute!s}:{value!s}", place)


def _texts(element: etree._Element) -> Iterator[str]:
    return (str(text) for text in element.itertext())


def _check_reference(element: etree._Element, attribute: str, value: str, place: str) -> None:
    if element.tag in (f"{_SVG}a", f"{_SVG}script"):
        del element.attrib[attribute]
    elif not value.strip().startswith("#") and not _EMBEDDED.match(value.strip()):
        raise _outside(place, value)


def _check_style(style: str, place: str) -> None:
    if _ANIMATED_STYLE.search(style):
        raise _animated(place)
    if found := _UNKNOWN_STYLE.search(style):
        raise SourceError(f"{place}: {found[1]}() cannot be drawn", remedy="write the value itself")
    if found := _OUTSIDE_STYLE.search(style):
        raise _outside(place, style[found.end() :])


def _animated(place: str) -> SourceError:
    return SourceError(
        f"{place}: the drawing is animated",
        remedy="export it as an animated GIF, or remove the animation",
    )


def _outside(place: str, address: str) -> SourceError:
    return SourceError(
        f"{place}: the drawing loads '{address[:60]}'",
        remedy="embed it in the SVG, or export the drawing as PNG",
    )


def _size(root: etree._Element, name: str) -> tuple[float, float]:
    """Return the width and height in CSS pixels; what is missing follows from the viewBox."""
    width, height = (_pixels(root.get(side)) for side in ("width", "height"))
    box = [
        float(number)
        for number in re.findall(r"[-+]?[0-9]*\.?[0-9]+(?:e[-+]?[0-9]{1,2})?", root.get("viewBox") or "")
    ]
    if len(box) == 4 and box[2] > 0 and box[3] > 0:
        ratio = box[3] / box[2]
        width = width or (height / ratio if height else box[2])
        height = height or width * ratio
    if not width or not height:
        raise SourceError(f"{name} has no size", remedy="give its <svg> a viewBox, or a width and a height")
    return width, height


def _pixels(length: str | None) -> float:
    """Return a length in pixels, or 0 if it is missing or relative to the page."""
    found = _LENGTH.fullmatch(length or "")
    return float(found[1]) * _PIXELS.get(found[2], 0.0) if found else 0.0
