"""Where what comes of each file goes, and whether what is there already came of it: the same command goes on."""

from collections.abc import Sequence

from etils import epath
from jaxtyping import UInt8
from numpy import ndarray

from ddpm_jax import checkpoint, workdir
from ddpm_jax.codec import coding, container, pictures
from ddpm_jax.codec.errors import CodecError
from ddpm_jax.codec.model import Codec

DAMAGED = (
    ".damaged.png"  # what --best_effort makes of a damaged file: never the name of a whole picture
)
Pair = tuple[epath.Path, epath.Path]


def check(input: Sequence[str], output: str | None) -> None:
    """Raises ValueError if one of them is not given, or nothing can be written there."""
    if not input:
        raise ValueError("say what to take in, --input=FILES or --input=DIR")
    if not output:
        raise ValueError("say where to write, --output=DIR")
    workdir.check_writable(checkpoint.absolute(epath.Path(output)), "", flag="--output")


def pairs(found: Sequence[epath.Path], output: str, suffix: str) -> list[Pair]:
    """Each file, and where it goes. Raises ValueError if two go to one place."""
    made = [(path, epath.Path(output) / f"{path.stem}{suffix}") for path in found]
    names = {str(name) for _, target in made for name in (target, damaged(target))}
    if len(names) < 2 * len(made):
        raise ValueError("--input: two files of one name would go to one place")
    return made


def damaged(target: epath.Path) -> epath.Path:
    return target.with_name(f"{target.stem}{DAMAGED}")


def missing(of: Sequence[Pair]) -> list[Pair]:
    """Those that are still to be made: what is there has been checked."""
    return [pair for pair in of if not pair[1].exists()]


def refuse(source: epath.Path, target: epath.Path) -> None:
    raise ValueError(
        f"--output: {target} is there already, and is not what {source} becomes; give another folder"
    )


def is_file_of(
    data: bytes, image: UInt8[ndarray, "h w c"], codec: Codec, nu: int, max_bytes: int | None
) -> bool:
    """Whether it is the file of this image, by its header and its length."""
    try:
        header, start = container.unpack(data)
    except CodecError:
        return False
    found = header.model, header.environment, header.shape, header.nu, header.pixels
    whole = start + header.payload
    return (
        found == (codec.model, codec.environment, image.shape, nu, container.checksum(image))
        and header.lossless
        and len(data) == min(whole, max_bytes or whole)
    )


def is_picture_of(target: epath.Path, data: bytes, codec: Codec, max_bytes: int | None) -> bool:
    """Whether it is the picture in a file: by the checksum of its pixels, else by decoding the file."""
    try:
        image = pictures.read(target, codec.shape, codec.levels)
    except ValueError:
        return False
    header, start = container.unpack(data)
    whole = header.lossless and start + header.payload <= (max_bytes or len(data))
    is_damaged = target.name.endswith(DAMAGED)
    if whole and not is_damaged:
        return container.checksum(image) == header.pixels
    out = coding.decompress(data, codec, max_bytes, best_effort=True)
    return bool(out.damage) == is_damaged and bool((out.image == image).all())
