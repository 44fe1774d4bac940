"""One image file: from any encoding to upright RGB pixels, or a reason why not."""

import hashlib
import io
import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageOps

from helpers.data.twins import likeness

MAX_PIXELS = 50_000_000
"""Larger pictures are refused before they are decoded: a header of a few bytes can ask for gigabytes."""

MAX_BYTES = 64_000_000
"""Larger files are not read: one that is mostly holes takes no room on the disk and all of the memory."""

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""What Pillow may open. It knows others that start a program of their own, such as Ghostscript for EPS."""

MAX_ASPECT = 5
"""A side of more than this many times the other is no face, and some augmentation techniques fail on it."""

MIN_SIDE = 16
"""Nothing can be read from a face of fewer pixels a side, and some augmentation techniques fail on it."""


class RejectedImageError(ValueError):
    """One file cannot be used; the message is the reason, short enough to count by."""


@dataclass(frozen=True)
class Face:
    """A usable face.

    Attributes:
        encoded: JPEG or PNG bytes that decode to upright RGB or grey.
        sha: SHA-256 of the RGB pixels.
        likeness: outline and thumbnail, see :func:`helpers.data.twins.likeness`.
        height, width: of the encoded picture, in pixels.
    """

    encoded: bytes
    sha: str
    likeness: tuple[np.ndarray, np.ndarray]
    height: int
    width: int


def read_face(encoded: bytes, max_side: int | None = None) -> Face:
    """Check and fingerprint the bytes of an image file.

    Bytes that every decoder reads alike (JPEG or PNG, 8 bit grey or RGB, upright) are kept as they are;
    anything else is turned upright, made RGB and written as PNG. A face whose longer side has more than ``max_side``
    pixels is reduced to it and written as JPEG; its fingerprints are those of the whole picture.

    Raises:
        RejectedImageError: empty, not an image, truncated, too small, too large or too long.
    """
    if not encoded:
        raise RejectedImageError("empty file")
    try:
        picture = Image.open(io.BytesIO(encoded), formats=FORMATS)
        if picture.width * picture.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        plain = picture.format in ("JPEG", "PNG") and picture.mode in ("L", "RGB")
        plain = plain and picture.getexif().get(0x0112, 1) == 1 and "transparency" not in picture.info
        upright = picture if plain else _to_rgb(ImageOps.exif_transpose(picture))
        pixels = np.asarray(upright.convert("RGB"))
    except Image.DecompressionBombError:
        raise RejectedImageError(f"more than {MAX_PIXELS // 1_000_000} million pixels") from None
    except Exception as error:  # Pillow's decoders raise a dozen unrelated types for damaged bytes.
        why = "truncated image" if "truncated" in str(error) else "not readable as an image"
        raise RejectedImageError(why) from error
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_SIDE:
        raise RejectedImageError(f"fewer than {MIN_SIDE} pixels a side")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise RejectedImageError(f"longer than {MAX_ASPECT} times its width")
    digest = hashlib.sha256(b"%dx%d:" % (width, height))
    digest.update(pixels.tobytes())
    alike = likeness(pixels)
    if max_side and max(height, width) > max_side:
        pixels = reduce(pixels, max_side)
        encoded = cv2.imencode(".jpg", pixels[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, 95))[1].tobytes()
    elif not plain:
        encoded = cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()
    return Face(encoded, digest.hexdigest(), alike, *pixels.shape[:2])


def reduce(pixels: np.ndarray, side: int) -> np.ndarray:
    """The picture with its longer side reduced to ``side`` pixels, or as it is where that is not longer."""
    longer = max(pixels.shape[:2])
    if longer <= side:
        return pixels
    height, width = (max(1, round(length * side / longer)) for length in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def _to_rgb(picture: Image.Image) -> Image.Image:
    """RGB of any mode: 16-bit greys are scaled (Pillow would clip them), transparency is laid on white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.nan_to_num(np.asarray(picture, np.float64))
        top = 65535.0 if picture.mode.startswith("I;16") or values.max() > 255 else 255.0
        top = 1.0 if picture.mode == "F" and values.max() <= 1 else top
        return Image.fromarray((np.clip(values / top, 0, 1) * 255).round().astype(np.uint8)).convert("RGB")
    if picture.mode in ("P", "LA", "PA", "RGBA", "La", "RGBa") or "transparency" in picture.info:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    return picture.convert("RGB")


def encode_grey(pixels: bytes) -> bytes:
    """The PNG of a square grey picture of one byte each pixel."""
    side = math.isqrt(len(pixels))
    return cv2.imencode(".png", np.frombuffer(pixels, np.uint8).reshape(side, side))[1].tobytes()


def decode(encoded) -> np.ndarray:
    """Pixels of bytes that :func:`read_face` accepted, uint8 RGB of shape (H, W, 3)."""
    return np.asarray(cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB))
