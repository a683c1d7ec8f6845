"""Image decoding in many formats, size limits, and antialiased crops."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from messages import mentions

from kpdetect.core.errors import KpdetectError, MissingExtra
from kpdetect.core.geometry import CropRule, apply_matrix, invert, rotation, scaling, translation
from kpdetect.core.images import (
    EncodedImage,
    as_rgb,
    cv2,
    decode_image,
    image_size,
    read_image,
    shrink_factor,
    to_channels,
    warp_crop,
    write_image,
)

Image = pytest.importorskip("PIL.Image", reason="Pillow comes with matplotlib, in kpdetect[test]")


def gradient(height, width):
    """A smooth RGB image with different corners and small JPEG errors."""
    y, x = np.mgrid[:height, :width]
    planes = [40 + 150 * x / width, 30 + 180 * y / height, 200 - 80 * x / width - 60 * y / height]
    return np.stack(planes, axis=-1).astype(np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


# EXIF orientations 1 to 8: how the stored pixels are transformed for display.
SEEN = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", sorted(SEEN))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG"])
def test_exif_orientation_is_applied(tmp_path, orientation, image_format):
    stored = gradient(24, 40)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "turned.jpg", stored, format=image_format, exif=exif, **{"quality": 95})
    found = read_image(path)
    expected = SEEN[orientation](stored)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= (10 if image_format == "JPEG" else 0)


def test_the_format_is_read_from_the_content_and_alpha_is_dropped(tmp_path):
    rgb = gradient(20, 30)
    rgba = np.concatenate([rgb, np.full((20, 30, 1), 90, np.uint8)], axis=-1)
    path = save(tmp_path / "really_a_png.jpg", rgba, format="PNG")
    np.testing.assert_array_equal(read_image(str(path)), rgb)


def test_grey_and_16_bit_images_become_8_bit_rgb(tmp_path):
    grey = gradient(20, 30)[..., 0]
    np.testing.assert_array_equal(read_image(save(tmp_path / "grey.png", grey)), as_rgb(grey))
    deep = tmp_path / "deep.png"
    deep.write_bytes(cv2.imencode(".png", grey.astype(np.uint16) * 257)[1].tobytes())
    np.testing.assert_array_equal(read_image(deep), as_rgb(grey))


@pytest.mark.parametrize(
    ("content", "parts"),
    [(None, ()), (b"", ()), (b"a letter, no image", ("18 bytes", "b'a letter"))],
)
def test_files_that_are_no_images_are_named(tmp_path, content, parts):
    path = tmp_path / "bild.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(KpdetectError, match=mentions(str(path), *parts)):
        read_image(path)


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif", "a.webp"])
def test_the_first_frame_of_an_animation_is_read(tmp_path, name):
    first = gradient(20, 30)
    options = {"lossless": True} if name.endswith("webp") else {}
    frames = [Image.fromarray(255 - first), Image.fromarray(first[::-1])]
    found = read_image(save(tmp_path / name, first, save_all=True, append_images=frames, **options))
    assert np.abs(found.astype(int) - first).mean() < (3 if name.endswith("gif") else 0.01)  # a GIF has 256 colours


def test_cmyk_becomes_rgb(tmp_path):
    Image.fromarray(gradient(40, 60)).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "print.jpg").astype(int) - gradient(40, 60)).max() < 12


def test_a_palette_image_and_a_single_pixel(tmp_path):
    Image.fromarray(gradient(20, 30)[..., 0]).convert("P").save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), as_rgb(gradient(20, 30)[..., 0]))
    np.testing.assert_array_equal(read_image(save(tmp_path / "one.png", gradient(1, 1))), gradient(1, 1))


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp"])
def test_truncated_files_are_errors(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    whole = save(tmp_path / name, noise).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path / name))):
        read_image(tmp_path / name)


def promising(width, height, suffix):
    """A small file whose header declares this image size."""
    encoded = bytearray(cv2.imencode(suffix, np.zeros((2, 2, 3), np.uint8))[1].tobytes())
    if suffix == ".png":
        encoded[16:24] = struct.pack(">II", width, height)
    elif suffix == ".bmp":
        encoded[18:26] = struct.pack("<ii", width, height)
    else:  # JPEG: marker, length, bits, height, width
        at = encoded.index(b"\xff\xc0") + 5
        encoded[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(encoded)


def gif(width, height):
    """A GIF of 35 bytes with one pixel and a logical screen of this size."""
    pixel = b"\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2\x44\1\0;"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0\0\0\0" + pixel


def tiff(*entries):
    """A TIFF with only a directory of (tag, type, value) entries."""
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II\x2a\0" + struct.pack("<IH", 8, len(entries)) + body + bytes(4)


def codestream(width, height):
    """The start of a raw JPEG 2000 codestream."""
    return b"\xff\x4f\xff\x51" + struct.pack(">HH8IH", 47, 0, width, height, 0, 0, width, height, 0, 0, 3) + bytes(9)


HUGE = {
    "GIF wider than a signed 16-bit number": gif(40000, 9000),
    "TIFF of BYTE-typed tags": tiff((256, 1, 250), (257, 4, 4_000_000)),
    "TIFF with a repeated tag": tiff((256, 3, 30), (256, 4, 60_000), (257, 3, 50_000)),
    "TIFF of huge tiles": tiff((256, 3, 30), (257, 3, 30), (322, 4, 60_000), (323, 4, 50_000)),
    "TIFF of 64 bits a sample": tiff((256, 3, 9000), (257, 3, 9000), (258, 3, 64), (277, 3, 4)),
    "raw JPEG 2000": codestream(60_000, 50_000),
    "Radiance HDR": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 50000 +X 60000\n" + bytes(64),
    "PFM": b"PF\n60000 50000\n-1.0\n" + bytes(64),
    "PPM with a comment": b"P6 # 1 1\n60000 50000\n255\n" + bytes(64),
    "PAM with a repeated width": b"P7\nWIDTH 3\nWIDTH 60000\nHEIGHT 50000\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + bytes(64),
    "Sun raster": struct.pack(">8I", 0x59A66A95, 60_000, 50_000, 24, 0, 1, 0, 0) + bytes(64),
    "WebP": b"RIFF\x40\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\xff\0\xff\xff\0" + bytes(64),
    "AVIF": b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf" + b"\0\0\0\x14ispe" + struct.pack(">III", 0, 60_000, 50_000),
}


@pytest.mark.parametrize("kind", HUGE)
def test_images_of_unknown_size_or_above_the_limit_are_not_decoded(monkeypatch, kind):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(KpdetectError, match=mentions("a.bin")):
        decode_image(HUGE[kind], "a.bin")


def test_a_png_chunk_longer_than_the_file_is_an_error_before_libpng_allocates_it(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    data = bytearray(cv2.imencode(".png", gradient(16, 16))[1].tobytes())
    data[33:37] = struct.pack(">I", 0xFFFFFF00)  # of the chunk after IHDR
    with pytest.raises(KpdetectError, match="IDAT ends beyond the file"):
        decode_image(bytes(data), "a.png")


@pytest.mark.parametrize(
    "suffix", [".png", ".jpg", ".webp", ".bmp", ".tiff", ".jp2", ".ppm", ".pam", ".ras", ".hdr", ".gif"]
)
def test_the_size_in_the_header_equals_the_decoded_size(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    pixels = gradient(64, 96)
    assert cv2.imwrite(str(path), pixels.astype(np.float32) / 255 if suffix == ".hdr" else pixels)
    assert image_size(path) == read_image(path).shape[:2] == (64, 96)


@pytest.mark.parametrize("orientation", sorted(SEEN))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_files_and_pil_images_have_the_same_orientation(tmp_path, orientation, image_format):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = gradient(24, 40)
    path = save(tmp_path / "a.bin", stored, format=image_format, exif=exif, quality=95)
    expected = SEEN[orientation](stored)
    for found in (read_image(path), as_rgb(Image.open(path))):
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).mean() < 5
    assert image_size(path) == expected.shape[:2]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_pil_images_of_all_modes_equal_their_files(tmp_path, mode):
    grey = gradient(24, 40)[..., 0]
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(gradient(24, 40)).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    np.testing.assert_allclose(as_rgb(image).astype(int), read_image(path), atol=2 if mode == "CMYK" else 0)


def test_heic_is_read_with_pillow_heif(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "phone.HEIC"
    heif.from_bytes("RGB", (40, 24), gradient(24, 40).tobytes()).save(path, quality=95)
    assert np.abs(read_image(path).astype(int) - gradient(24, 40)).mean() < 5
    assert image_size(path) == (24, 40)
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(KpdetectError, match=mentions(str(path))):
        read_image(path)


def test_heic_without_pillow_heif_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(bytes([0, 0, 0, 24]) + b"ftypheic" + bytes(4) + b"mif1heic")
    with pytest.raises(MissingExtra, match=mentions(str(path), "pip install", "[heif]")):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg"])
def test_huge_images_are_errors_before_decoding(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    path = tmp_path / f"bomb{suffix}"
    path.write_bytes(promising(60000, 50000, suffix))
    with pytest.raises(KpdetectError, match=mentions("128", "60000", "50000", "--max-megapixels")):
        read_image(path)


def test_the_limit_of_size_is_an_option(tmp_path):
    path = save(tmp_path / "a.png", gradient(20, 30))
    assert read_image(path, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(KpdetectError, match=mentions("0.000599", "30", "20")):
        read_image(path, max_pixels=599)


def test_a_folder_is_an_error(tmp_path):
    with pytest.raises(KpdetectError, match=mentions(str(tmp_path))):
        read_image(tmp_path)


def test_a_round_trip_through_a_file(tmp_path):
    rgb = gradient(20, 30)
    write_image(tmp_path / "new" / "a.png", rgb)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), rgb)
    for name in ("a.nosuch", "a"):
        with pytest.raises(KpdetectError, match=mentions(str(tmp_path / name), ".png")):
            write_image(tmp_path / name, rgb)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_as_rgb_accepts_common_shapes():
    rgb = gradient(5, 7)
    grey = rgb[..., 0]
    assert as_rgb(rgb) is not None
    np.testing.assert_array_equal(as_rgb(np.dstack([rgb, grey])), rgb)
    np.testing.assert_array_equal(as_rgb(grey), as_rgb(grey[..., None]))
    for wrong in (rgb.astype(np.int32), rgb[..., :2], rgb[None], rgb[:0]):
        with pytest.raises(KpdetectError, match=mentions("image", "(H, W, 3)", str(wrong.shape))):
            as_rgb(wrong)


def test_as_rgb_accepts_common_types():
    rgb = gradient(5, 7)
    for same in (rgb.astype(np.uint16) * 257, rgb / 255, (rgb / 255).astype(np.float16), rgb.astype(np.float32)):
        np.testing.assert_array_equal(as_rgb(same), rgb)
    np.testing.assert_array_equal(as_rgb(rgb > 100), np.where(rgb > 100, 255, 0))
    np.testing.assert_array_equal(as_rgb(rgb[..., ::-1], bgr=True), rgb)
    np.testing.assert_array_equal(as_rgb(np.dstack([rgb[..., ::-1], rgb[..., 0]]), bgr=True), rgb)


@pytest.mark.parametrize("value", [-0.1, 255.5, np.nan, np.inf])
def test_floats_out_of_range_are_errors(value):
    picture = np.full((4, 4, 3), 0.5)
    picture[1, 2, 0] = value
    with pytest.raises(KpdetectError, match=mentions("0", "1", "255", "float64")):
        as_rgb(picture)


def test_a_crop_converted_to_grey_equals_a_crop_of_the_grey_photograph():
    """Prediction converts the photograph to grey once; training and evaluation convert each crop."""
    rgb = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    for matrix in (scaling(0.3) @ translation(20, -15), scaling(1.7) @ translation(-9.3, 4.1), translation(900, 0)):
        grey = warp_crop(rgb, matrix, (32, 40), 1)
        assert grey.shape == (32, 40, 1)
        np.testing.assert_array_equal(grey, warp_crop(to_channels(rgb, 1), matrix, (32, 40)))
        np.testing.assert_array_equal(warp_crop(rgb, matrix, (32, 40), 3), warp_crop(rgb, matrix, (32, 40)))


def test_to_channels():
    rgb = gradient(9, 11)
    grey = to_channels(rgb, 1)
    assert grey.shape == (9, 11, 1)
    assert np.abs(grey[..., 0] - rgb @ np.array([0.299, 0.587, 0.114])).max() <= 1
    assert to_channels(rgb, 3) is rgb
    with pytest.raises(KpdetectError, match=mentions("channels", "1", "3", "2")):
        to_channels(rgb, 2)


def test_opencv_without_libgl_names_the_headless_build(tmp_path):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    root = Path(__file__).resolve().parents[1]
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(root)!r}]; import kpdetect.core.images"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "libGL.so.1" in done.stderr
    assert "pip install opencv-python-headless" in done.stderr.splitlines()[-1]


def smooth(points):
    """An analytic image: a value in 0..255 for any (x, y), with a wavelength of some hundred pixels."""
    x, y = points[..., 0], points[..., 1]
    return 128 + 60 * np.sin(x / 25) + 55 * np.cos(y / 31 + x / 60)


def grid(height, width):
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float64)


def inverse_grid(matrix, height, width):
    return apply_matrix(invert(matrix), grid(height, width).reshape(-1, 2)).reshape(height, width, 2)


@pytest.mark.parametrize("scale", [3.0, 1.0, 0.9, 0.7, 0.51, 0.5, 0.34, 0.2])
@pytest.mark.parametrize("angle_deg", [0.0, 33.0])
def test_a_crop_is_the_image_at_inverse_mapped_positions(scale, angle_deg):
    picture = np.rint(smooth(grid(400, 500))).astype(np.uint8)
    matrix = translation(25.3 - 250 * scale, 22.7 - 200 * scale) @ scaling(scale) @ rotation(angle_deg, (250, 200))
    crop = warp_crop(picture, matrix, (48, 56))
    places = inverse_grid(matrix, 48, 56)
    inside = ((places > 8) & (places < np.array([491, 391]))).all(axis=-1)
    assert inside.sum() > 500
    difference = (crop[..., 0] - smooth(places))[inside]
    # Averaging flattens curves, by about a grey level at the strongest reduction here.
    assert np.abs(difference).max() <= (2.0 if scale > 0.3 else 3.0)
    assert abs(difference.mean()) < 0.5  # rounding to bytes


@pytest.mark.parametrize("scale", [0.9, 0.6, 0.5, 0.31, 0.25, 0.13, 0.05])
def test_shrinking_does_not_shift(scale):
    """A linear ramp is unchanged; a shift by a crop pixel would change it by `slope / scale`."""
    size = int(48 / scale)
    slope = 180 / size
    places = inverse_grid(translation(-4.37, -3.81) @ scaling(scale), 40, 40)
    noise = np.random.default_rng(0).random((size, size))
    for axis in (0, 1):
        # A small slope along the other axis decorrelates the rounding to bytes.
        along = slope * np.where(np.arange(2) == axis, 1, 0.171)
        picture = np.floor(20 + grid(size, size) @ along + noise).astype(np.uint8)
        crop = warp_crop(picture, translation(-4.37, -3.81) @ scaling(scale), (40, 40))[..., 0]
        error = (crop - (20 + places @ along))[2:-2, 2:-2].mean()
        # Means of 2x2 bytes are rounded up by 1/8 level; an offset of half a pixel would be (1 / scale - 1) / 2.
        assert abs(error) / (slope / scale) < (0.03 if scale > 0.5 else 0.06)


@pytest.mark.parametrize("scale", [0.6, 0.45, 0.3, 0.11])
def test_shrinking_does_not_alias(scale):
    """Stripes and checks finer than the crop's pixels become uniform grey, without moiré."""
    y, x = np.mgrid[:700, :700]
    for pattern in (x % 2, (x + y) % 2):
        crop = warp_crop((255 * pattern).astype(np.uint8), translation(-5.2, -6.6) @ scaling(scale), (56, 56))
        assert crop.std() < (20 if scale > 0.5 else 8)  # the pattern has 127
        assert abs(crop.mean() - 127.5) < 2


def test_a_reduction_that_differs_by_axis():
    picture = np.rint(smooth(grid(300, 400))).astype(np.uint8)
    matrix = np.diag([0.2, 0.8, 1.0])
    matrix[:2, 2] = 0.5 * 0.2 - 0.5, 0.5 * 0.8 - 0.5
    crop = warp_crop(picture, matrix, (240, 80))[..., 0]
    difference = (crop - smooth(inverse_grid(matrix, 240, 80)))[2:-2, 2:-2]
    assert np.abs(difference).max() < 3


def test_outside_is_black():
    white = np.full((60, 80, 3), 255, np.uint8)
    for scale in (2.0, 1.0, 0.4):
        crop = warp_crop(white, translation(20, 12) @ scaling(scale), (200, 240))
        assert not crop[:10].any()
        assert not crop[:, :18].any()
        inner = crop[15 : 12 + int(60 * scale) - 3, 23 : 20 + int(80 * scale) - 3]
        assert inner.min() >= 254
        assert not crop[12 + int(60 * scale) + 3 :].any()
    assert not warp_crop(white, translation(500, 0), (50, 50)).any()
    assert not warp_crop(white, translation(0, -1e7), (50, 50)).any()


def test_the_identity_matrix_changes_nothing():
    picture = np.random.default_rng(1).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    np.testing.assert_array_equal(warp_crop(picture, np.eye(3), (33, 47)), picture)
    moved = warp_crop(picture, translation(-3, -5), (20, 30))
    np.testing.assert_array_equal(moved, picture[5:25, 3:33])


def test_grey_images_keep_the_channel_axis_and_invalid_matrices_are_errors():
    assert warp_crop(np.zeros((9, 9), np.uint8), np.eye(3), (4, 5)).shape == (4, 5, 1)
    for bad in (np.zeros((3, 3)), np.eye(2), np.full((3, 3), np.nan)):
        with pytest.raises(KpdetectError, match=r"3\s?[x×]\s?3"):
            warp_crop(np.zeros((9, 9), np.uint8), bad, (4, 5))


def spots(height, width, centers, sigma):
    """Bright Gaussian spots on grey, (height, width, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    picture = np.full((height, width), 60.0)
    for center_x, center_y in centers:
        picture += 180 * np.exp(-((x - center_x) ** 2 + (y - center_y) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(picture).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_points_and_image_of_a_reduced_jpeg_agree_to_a_fraction_of_a_pixel():
    """Each spot's centroid in the crop is where the matrix of the whole photograph maps its centre."""
    centers = np.array([[310.3, 275.6], [905.8, 301.2], [600.1, 710.9]])
    picture = spots(901, 1203, centers, sigma=24)  # sizes that 2, 4 and 8 do not divide
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
    for scale, expected in ((0.6, 1), (0.24, 2), (0.12, 4), (0.06, 8)):
        for channels in (1, 3):
            matrix = translation(3.4, 2.7) @ scaling(scale)
            size_hw = (int(901 * scale) + 8, int(1203 * scale) + 8)
            pixels, reduction = EncodedImage(data, "a.jpg").decode(channels, shrink_factor(matrix))
            assert reduction == expected
            assert pixels.shape[:2] == (-(-901 // reduction), -(-1203 // reduction))
            crop = warp_crop(pixels, matrix @ scaling(reduction), size_hw, channels)
            whole = warp_crop(read_image_of(data), matrix, size_hw, channels)
            assert np.abs(crop.astype(int) - whole)[2:-2, 2:-2].mean() < 0.5
            for center in apply_matrix(matrix, centers):
                near = np.rint(center).astype(int)
                radius = int(60 * scale)
                rows = slice(near[1] - radius, near[1] + radius + 1)
                columns = slice(near[0] - radius, near[0] + radius + 1)
                weight = np.clip(crop[rows, columns, 0].astype(float) - 62, 0, None)
                y, x = np.mgrid[rows, columns]
                centroid = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
                assert np.abs(centroid - center).max() < 0.08, (scale, channels)


def read_image_of(data):
    return decode_image(data, "a.jpg")


def test_only_upright_jpegs_are_reduced(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, options in (("a.jpg", {"exif": exif}), ("a.png", {}), ("a.webp", {})):
        path = tmp_path / name
        Image.fromarray(gradient(64, 96)).save(path, **options)
        pixels, reduction = EncodedImage(path.read_bytes(), name).decode(3, shrink=20.0)
        assert reduction == 1
        np.testing.assert_array_equal(pixels, read_image(path))
        assert EncodedImage(path.read_bytes(), name).size_hw == pixels.shape[:2]


def test_grey_of_a_jpeg_is_that_of_its_colours():
    picture = gradient(64, 96)
    data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    grey, reduction = EncodedImage(data, "a.jpg").decode(channels=1)
    assert (grey.shape, reduction) == ((64, 96), 1)
    assert np.abs(grey.astype(int) - to_channels(decode_image(data, "a.jpg"), 1)[..., 0]).mean() < 0.5


@pytest.mark.parametrize(("channels", "shrink"), [(1, 1.0), (1, 9.0), (3, 9.0)])
def test_damaged_files_raise_the_same_error_for_crops(channels, shrink):
    data = cv2.imencode(".jpg", gradient(64, 96))[1].tobytes()
    for damaged in (b"", b"no image", data[:40], data[:300]):
        texts = []
        for decode in (
            lambda damaged=damaged: decode_image(damaged, "a.jpg"),
            lambda damaged=damaged: EncodedImage(damaged, "a.jpg").decode(channels, shrink),
        ):
            try:
                decode()
                texts.append("")
            except KpdetectError as error:
                texts.append(str(error))
        assert texts[0] == texts[1]
    assert texts[0] or len(data) > 300


def test_the_shrink_factor_is_that_of_the_axis_with_fewer_pixels():
    assert shrink_factor(scaling(0.25)) == pytest.approx(4)
    assert shrink_factor(scaling(3)) == 1
    assert shrink_factor(rotation(30, (5, 5)) @ scaling(0.1)) == pytest.approx(10)
    assert shrink_factor(np.diag([0.5, 0.125, 1.0])) == pytest.approx(2)


def test_a_png_file_with_a_jpg_name(shared_data):
    files = sorted((shared_data / "youtube_faces").rglob("*.jpg"))
    if not files:
        pytest.skip("no YouTube Faces frames found")
    disguised = [path for path in files if path.read_bytes()[:4] == b"\x89PNG"]
    assert disguised
    with Image.open(io.BytesIO(disguised[0].read_bytes())) as expected:
        np.testing.assert_array_equal(read_image(disguised[0]), np.asarray(expected)[..., :3])
    crop = warp_crop(read_image(disguised[0]), CropRule((64, 64), 1.2).matrix([10, 10, 60, 60]), (64, 64))
    assert crop.std() > 5
