"""Local images on their way into mail."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from mailer.errors import SourceError
from mailer.rendering.html.images import MAX_WIDTH, prepared


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def test_large_image_shrinks_to_twice_the_width_it_is_shown_at(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500), "#336699").save(tmp_path / "a.jpg")
    picture, image = prepared("a.jpg", tmp_path, tmp_path, None, "x.md:1")
    assert (picture.width, picture.height) == (MAX_WIDTH, MAX_WIDTH // 2)
    assert opened(image.content).size == (2 * MAX_WIDTH, MAX_WIDTH)
    assert image.media_type == "image/jpeg"
    assert image.name.endswith(".jpg")


def test_narrower_width_is_kept_and_small_images_are_not_blown_up(tmp_path: Path) -> None:
    Image.new("RGB", (400, 100)).save(tmp_path / "a.png")
    narrow, shrunk = prepared("a.png", tmp_path, tmp_path, 150, "x.md:1")
    assert (narrow.width, narrow.height, opened(shrunk.content).size) == (150, 38, (300, 75))
    whole, _ = prepared("a.png", tmp_path, tmp_path, 900, "x.md:1")
    assert (whole.width, whole.height) == (400, 100)


def test_transparency_stays(tmp_path: Path) -> None:
    Image.new("RGBA", (20, 20), (255, 0, 0, 0)).save(tmp_path / "a.png")
    _, image = prepared("a.png", tmp_path, tmp_path, None, "x.md:1")
    assert image.media_type == "image/png"
    assert opened(image.content).convert("RGBA").getpixel((3, 3)) == (255, 0, 0, 0)


def test_photograph_is_turned_and_tells_no_more_where_it_was_taken(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "A camera"
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    picture, image = prepared("a.jpg", tmp_path, tmp_path, None, "x.md:1")
    assert (picture.width, picture.height) == (20, 40)
    assert not opened(image.content).getexif()


def test_same_image_gives_the_same_bytes_and_name(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), "#123456").save(tmp_path / "a.png")
    Image.new("RGB", (64, 64), "#123456").save(tmp_path / "b.png")
    assert prepared("a.png", tmp_path, tmp_path, None, "") == prepared("b.png", tmp_path, tmp_path, None, "")


def test_broken_image_is_reported_with_its_place(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    with pytest.raises(SourceError, match=r"^x\.md:7: 'half\.png' cannot be read"):
        prepared("half.png", tmp_path, tmp_path, None, "x.md:7")
