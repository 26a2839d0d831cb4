"""Images look in the email as they look in the author's program."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageCms, ImageSequence

from mailer.errors import SourceError
from mailer.rendering.html.images import prepared
from tests.rendering.scene import edition


def of(folder: Path, name: str, width: int | None = None) -> Image.Image:
    _, image = prepared(name, folder, folder, width, "x.md:1")
    return Image.open(io.BytesIO(image.content))


def near(one: object, other: tuple[int, ...], most: int = 6) -> bool:
    assert isinstance(one, tuple)
    return all(abs(a - b) <= most for a, b in zip(one, other, strict=True))


def test_sixteen_bits_of_grey_become_eight(tmp_path: Path) -> None:
    picture = Image.new("I;16", (256, 8))
    for x in range(256):
        for y in range(8):
            picture.putpixel((x, y), x * 257)
    picture.save(tmp_path / "a.png")
    got = of(tmp_path, "a.png").convert("RGB")
    assert [near(got.getpixel((x, 4)), (x, x, x)) for x in (0, 64, 128, 255)] == [True] * 4


def test_palette_is_scaled_smoothly(tmp_path: Path) -> None:
    picture = Image.new("P", (400, 40))
    picture.putpalette([0, 0, 0, 255, 255, 255])
    for x in range(0, 400, 2):
        for y in range(40):
            picture.putpixel((x, y), 1)
    picture.save(tmp_path / "a.png")
    grey = of(tmp_path, "a.png", 50).convert("RGB").getpixel((50, 5))
    assert near(grey, (127, 127, 127), 20)


def test_wide_gamut_photograph_is_converted_to_srgb(tmp_path: Path) -> None:
    # A profile that swaps nothing but is not sRGB: LAB is the one that every build of LittleCMS can make.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    red = ImageCms.profileToProfile(
        Image.new("RGB", (9, 9), (200, 30, 40)),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    assert red is not None
    red.save(tmp_path / "a.tiff", icc_profile=profile)
    from mailer.rendering.html.images import _converted

    assert near(_converted(Image.open(tmp_path / "a.tiff")).getpixel((4, 4)), (200, 30, 40))


def test_damaged_profile_does_no_harm(tmp_path: Path) -> None:
    Image.new("RGB", (9, 9), (200, 30, 40)).save(tmp_path / "a.png", icc_profile=b"nonsense")
    assert near(of(tmp_path, "a.png").convert("RGB").getpixel((4, 4)), (200, 30, 40))


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
@pytest.mark.parametrize("width", [None, 20])
def test_animation_stays_an_animation(tmp_path: Path, kind: str, width: int | None) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    frames = [Image.new("RGB", (80, 40), colour) for colour in colours]
    frames[0].save(
        tmp_path / f"a.{kind}", save_all=True, append_images=frames[1:], duration=120, loop=0, lossless=True
    )
    got = of(tmp_path, f"a.{kind}", width)
    assert got.format == "GIF"
    shown = [frame.convert("RGB").getpixel((9, 9)) for frame in ImageSequence.Iterator(got)]
    assert [near(one, other, 12) for one, other in zip(shown, colours, strict=True)] == [True] * 3
    assert got.width == (40 if width else 80)


def test_cmyk_and_transparency_come_through(tmp_path: Path) -> None:
    Image.new("CMYK", (9, 9), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    assert near(of(tmp_path, "a.jpg").convert("RGB").getpixel((4, 4)), (254, 0, 0), 12)
    Image.new("LA", (9, 9), (50, 100)).save(tmp_path / "b.png")
    assert of(tmp_path, "b.png").convert("RGBA").getpixel((4, 4)) == (50, 50, 50, 100)


def test_remote_image_without_a_width_keeps_its_own() -> None:
    made = edition("![badge](https://example.org/badge.png) and ![b](https://example.org/b.png){width=40px}")
    assert 'badge.png" alt="badge" style' in made.html
    assert 'b.png" alt="b" width="40"' in made.html


@pytest.mark.parametrize("width", ["wide", "0", "-3", "2em"])
def test_width_that_is_no_number_of_pixels_is_refused_at_its_line(width: str) -> None:
    with pytest.raises(SourceError, match=r"002-test\.md:7: an image cannot have width="):
        edition(f"a\n\n![x](https://example.org/x.png){{width={width}}}")
