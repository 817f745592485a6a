"""Encoded images and arrays of pixels. TFDS would encode an array with TensorFlow."""

import io

import numpy as np
from PIL import Image, ImageOps

Image.MAX_IMAGE_PIXELS = 2**29  # twice that is an error; pillow's own bound refuses large scans


def png(image: np.ndarray) -> io.BytesIO:
    """A PNG file of an image [h, w], [h, w, 1] or [h, w, 3]."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image).save(file, "PNG")
    file.seek(0)
    return file


def picture(content: bytes, size: int, channels: int, background: int) -> np.ndarray:
    """The square at a picture's centre, [size, size] or [size, size, 3]; small ones are enlarged."""
    image = upright(content, channels, background)
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    box = (left, top, left + side, top + side)
    # Not resize(box=...): its filter reaches beyond the box.
    return np.asarray(image.crop(box).resize((size, size), Image.Resampling.LANCZOS))


def upright(content: bytes, channels: int, background: int) -> Image.Image:
    """The whole picture, 8 bits, gray or RGB, turned by its EXIF tag, laid on a background."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode == "F":
        raise ValueError("its grey levels are floating-point numbers of no known range")
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would cut off, not scale
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, (background,) * 3 + (255,))
        image = Image.alpha_composite(behind, image)
    return image.convert("RGB" if channels == 3 else "L")
