"""SVG drawings become PNG pictures that look the same; the rest is refused with its line and a remedy."""

from __future__ import annotations

import base64
import gzip
import io
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mailer.errors import SourceError
from mailer.rendering.html.drawings import MAX_OCTETS, parse_drawing
from mailer.rendering.html.images import Picture, prepared

BOX = '<rect width="100" height="50" fill="#c00"/>'


def svg(inside: str = BOX, head: str = 'width="100" height="50"') -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f"{head}>\n{inside}\n</svg>"
    )


def converted(
    folder: Path, content: str | bytes, width: int | None = None, name: str = "a.svg"
) -> Image.Image:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    picture, image = prepared(name, folder, folder, width, "x.md:1")
    assert image.media_type == "image/png"
    drawn = Image.open(io.BytesIO(image.content))
    assert picture.width is not None
    assert drawn.width == 2 * picture.width
    return drawn.convert("RGBA")


def _embedded() -> str:
    out = io.BytesIO()
    Image.new("RGB", (4, 2), (204, 0, 0)).save(out, "PNG")
    encoded = base64.b64encode(out.getvalue()).decode()
    return f'<image width="100" height="50" href="data:image/png;base64,{encoded}"/>'


@pytest.mark.parametrize(
    "drawing",
    [
        svg(),
        svg('<style>.box { fill: #c00 }</style><rect class="box" width="100" height="50"/>'),
        svg('<defs><g id="g">' + BOX + '</g></defs><use xlink:href="#g"/>'),
        svg(
            '<linearGradient id="l"><stop stop-color="#c00"/></linearGradient>'
            '<rect width="100" height="50" fill="url(#l)"/>'
        ),
        svg(_embedded()),
        svg(f'<a href="https://example.org/">{BOX}</a><script>alert(1)</script><text> </text>'),
        svg(f'<switch><foreignObject requiredExtensions="x"/><g>{BOX}</g></switch>'),
        '<!DOCTYPE svg [<!ENTITY red "#c00">]>' + svg(BOX.replace("#c00", "&red;")),
        "\ufeff" + svg(),
    ],
)
def test_drawing_keeps_its_colours(tmp_path: Path, drawing: str) -> None:
    assert converted(tmp_path, drawing).getpixel((20, 20)) == (204, 0, 0, 255)


@pytest.mark.parametrize(
    ("head", "width", "shown"),
    [
        ('width="100" height="50"', None, (100, 50)),
        ('viewBox="0 0 100 50"', None, (100, 50)),
        ('viewBox="0,0,100,50" width="100%" height="100%"', None, (100, 50)),
        ('viewBox="0 0 100 50" width="200"', None, (200, 100)),
        ('viewBox="0 0 100 50" height="200px"', None, (400, 200)),
        ('width="1in" height="36pt" viewBox="0 0 100 50"', None, (96, 48)),
        ('width="25.4mm" height="1.27cm" viewBox="0 0 100 50"', None, (96, 48)),
        ('viewBox="0 0 2000 1000"', None, (536, 268)),
        ('viewBox="0 0 10 5"', 300, (300, 150)),
        ('viewBox="0 0 2000 1000"', 2000, (536, 268)),
    ],
)
def test_drawing_is_shown_at_its_size(
    tmp_path: Path, head: str, width: int | None, shown: tuple[int, int]
) -> None:
    (tmp_path / "a.svg").write_text(svg(BOX, head))
    picture, image = prepared("a.svg", tmp_path, tmp_path, width, "x.md:1")
    assert shown == (picture.width, picture.height)
    # Sharp on a phone: drawn at twice the size, never enlarged from pixels.
    assert (2 * shown[0], 2 * shown[1]) == Image.open(io.BytesIO(image.content)).size


def test_compressed_drawing_is_read(tmp_path: Path) -> None:
    assert converted(tmp_path, gzip.compress(svg().encode()), name="a.svgz").size == (200, 100)


def test_background_stays_transparent(tmp_path: Path) -> None:
    assert converted(tmp_path, svg('<circle r="5"/>')).getpixel((150, 80)) == (0, 0, 0, 0)


def test_same_drawing_gives_the_same_octets(tmp_path: Path) -> None:
    (tmp_path / "a.svg").write_text(svg())
    once, again = (prepared("a.svg", tmp_path, tmp_path, None, "x.md:1") for _ in range(2))
    assert once == again
    assert isinstance(once[0], Picture)


@pytest.mark.parametrize(
    ("inside", "said", "remedy"),
    [
        ("<text>\nSales</text>", "a.svg', line 2: the drawing contains text", "paths"),
        (f"{BOX}\n<g><text><tspan>Sales</tspan></text></g>", "line 3: the drawing contains text", "PNG"),
        ('<rect><animate attributeName="x" to="9"/></rect>', "line 2: the drawing is animated", "GIF"),
        ("<style>@keyframes a {}</style>", "line 2: the drawing is animated", "GIF"),
        ('<rect style="animation: a 1s"/>', "line 2: the drawing is animated", "GIF"),
        ('<image href="photo.png"/>', "line 2: the drawing loads 'photo.png'", "embed"),
        ('<image xlink:href="/etc/hostname"/>', "loads '/etc/hostname'", "embed"),
        ('<image href="file:///etc/hostname"/>', "loads 'file:///etc/hostname'", "embed"),
        ('<image href="data:image/svg+xml,&lt;svg/&gt;"/>', "loads 'data:image/svg", "embed"),
        ('<use href="https://example.org/a.svg#b"/>', "loads 'https://example.org/a.svg#b'", "embed"),
        ('<rect fill="url(b.svg#c)"/>', "loads 'b.svg#c", "embed"),
        ("<style>@import 'a.css';</style>", "the drawing loads", "embed"),
        ("<foreignObject><p>x</p></foreignObject>", "line 2: the drawing contains HTML", "PNG"),
        ('<rect style="fill: var(--brand)"/>', "line 2: var() cannot be drawn", "value"),
        ('<rect fill="oklch(0.6 0.2 30)"/>', "line 2: oklch() cannot be drawn", "value"),
        ("<g>", "is not valid SVG", "export it again"),
        ("&nothing;", "is not valid SVG", "export it again"),
    ],
)  # fmt: skip
def test_what_a_png_cannot_show_is_refused_with_its_line(
    tmp_path: Path, inside: str, said: str, remedy: str
) -> None:
    with pytest.raises(SourceError) as caught:
        converted(tmp_path, svg(inside))
    assert caught.value.message.startswith("x.md:1: 'a.svg'")
    assert said in caught.value.message
    assert remedy in (caught.value.remedy or "")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not valid SVG"),
        (b"\x89PNG", "is not valid SVG"),
        (b"<svg/>", "is not an SVG drawing"),
        (svg(BOX, "").encode(), "has no size"),
        (svg(BOX, 'viewBox="0 0 1 99999999"').encode(), "is too tall"),
        (b'<?xml-stylesheet href="a.css"?>' + svg().encode(), "style sheet outside"),
        (b"\x1f\x8bnonsense", "is damaged"),
        (gzip.compress(b" " * (MAX_OCTETS + 1)), "is larger than 5 MB"),
        (svg("<g>" * 100_000 + "</g>" * 100_000).encode(), "is not valid SVG"),
        (svg("<g>" * 60 + BOX + "</g>" * 60).encode(), ""),
        (
            svg(
                "".join(f'<g id="a{i}">' + f'<use href="#a{i + 1}"/>' * 2 + "</g>" for i in range(40))
            ).encode(),
            "is too complex",
        ),
        (
            b"<!DOCTYPE svg [<!ENTITY a0 'aaaa'>%b]>" % b"".join(
                b"<!ENTITY a%d '%b'>" % (i + 1, b"&a%d;" % i * 100) for i in range(9)
            ) + svg("<desc>&a9;</desc>").encode(),
            "is not valid SVG",
        ),
    ],
)  # fmt: skip
def test_hostile_drawing_ends_soon(tmp_path: Path, content: bytes, said: str) -> None:
    started = time.monotonic()
    outcome = ""
    try:
        converted(tmp_path, content)
    except SourceError as error:
        outcome = error.message
    assert said in outcome
    assert bool(said) == bool(outcome)
    assert time.monotonic() - started < 20


_MARKUP = st.text(alphabet="<>/\"'=& svgtextrect#:()\n", max_size=200)


@given(st.one_of(st.binary(max_size=200), _MARKUP.map(lambda inside: svg(inside).encode())))
def test_any_bytes_are_a_drawing_or_refused(content: bytes) -> None:
    try:
        outcome = parse_drawing(content, "a.svg").name
    except SourceError as error:
        outcome = error.message
    assert outcome.startswith("a.svg")
