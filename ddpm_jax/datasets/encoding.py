"""Encodes and decodes image files. TFDS would use TensorFlow to encode an array."""

import io

import numpy as np
from PIL import Image, ImageOps

# Pillow refuses twice this number; its own limit is too low for large scans.
Image.MAX_IMAGE_PIXELS = 2**29


def encode_png(image: np.ndarray) -> io.BytesIO:
    """Encodes an image [h, w], [h, w, 1] or [h, w, 3] as PNG."""
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image).save(file, "PNG")
    file.seek(0)
    return file


def decode_square(content: bytes, size: int, channels: int, background: int) -> np.ndarray:
    """Crops a picture to the square at its centre and resizes it to [size, size] or [size, size, 3]."""
    image = decode_upright(content, channels, background)
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    box = (left, top, left + side, top + side)
    # crop() first, as the filter of resize(box=...) reaches beyond the box.
    return np.asarray(image.crop(box).resize((size, size), Image.Resampling.LANCZOS))


def decode_upright(content: bytes, channels: int, background: int) -> Image.Image:
    """Decodes a picture to 8-bit gray or RGB, rotated by its EXIF tag, on a gray background."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode == "F":
        raise ValueError("its grey levels are floating-point numbers of unknown range")
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert() would clip instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, (background,) * 3 + (255,))
        image = Image.alpha_composite(behind, image)
    return image.convert("RGB" if channels == 3 else "L")
