"""Encodes and decodes image files. TFDS would use TensorFlow to encode an array."""

import io

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

# Pillow refuses twice this number; its own limit is too low for large scans.
Image.MAX_IMAGE_PIXELS = 2**29
SAMPLE_FORMAT = 339  # a TIFF tag; 2 is two's complement
UNSIGNED_16 = ("PNG", "PPM")  # formats whose mode "I" is scaled to 0..65535
CONVERT = "convert it to 8 bits"


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
    """Decodes a picture to 8-bit gray or RGB, rotated by its EXIF tag, on a gray background.

    Of an animation, this is the first frame. Raises ValueError for grey levels whose range is unknown.
    """
    image = to_8_bits(ImageOps.exif_transpose(open_picture(content)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, (background,) * 3 + (255,))
        image = Image.alpha_composite(behind, image)
    return image.convert("RGB" if channels == 3 else "L")


def open_picture(content: bytes) -> ImageFile.ImageFile:
    """Opens a picture, whose pixels are decoded later. Raises ValueError if it is not one."""
    if not content:
        raise ValueError("the file is empty")
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:
        raise ValueError("it is damaged, or not in a format that Pillow reads") from error
    check_range(image)
    return image


def has_16_bits(image: ImageFile.ImageFile) -> bool:
    """Returns whether a picture that is not decoded yet holds more than 8 bits a value."""
    if image.format == "PPM" and image.mode == "RGB":
        return image.tile[0][3] not in ("RGB", ("RGB", 255))
    return image.mode[0] in "IF" or any(";16" in str(tile[3]) for tile in image.tile)


def check_range(image: ImageFile.ImageFile) -> None:
    """Raises ValueError if nothing says which values of a picture are black and white."""
    signed = image.format == "TIFF" and 2 in getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT, ())
    kind = ""
    if image.mode == "F":
        kind = "floating-point numbers"
    elif signed or image.format == "FITS" and image.mode != "L":
        kind = "signed integers"
    elif image.mode == "I" and image.format not in UNSIGNED_16:
        kind = "32-bit integers"
    if kind:
        raise ValueError(f"its grey levels are {kind} of unknown range; {CONVERT}")
    if image.mode.startswith("RGB") and has_16_bits(image) and "transparency" in image.info:
        raise ValueError(f"its transparent colour has 16 bits a value; {CONVERT}")


def to_8_bits(image: Image.Image) -> Image.Image:
    """Scales 16-bit gray, which Pillow's convert() would clip. Other pictures are returned unchanged.

    Raises ValueError if the values are so low that they may be of 12 bits or fewer.
    """
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image).astype(np.uint32)
    if 0 < levels.max() < 2**12:
        raise ValueError(
            f"its grey levels are 16-bit integers, but the highest is {levels.max()}, so that white"
            f" may be less than 65535; {CONVERT}"
        )
    scaled = Image.fromarray((levels >> 8).astype(np.uint8))
    if "transparency" in image.info:
        opaque = np.where(levels == image.info["transparency"], 0, 255).astype(np.uint8)
        scaled.putalpha(Image.fromarray(opaque))
    return scaled
