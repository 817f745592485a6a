"""Small ones of what the paper's data sets are made from, in the forms in which they are published."""

import io
import tarfile

import lmdb
import numpy as np
from PIL import Image, ImageFilter

CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def archive(train, test):
    """What CIFAR-10's authors publish: (images [n, 32, 32, 3], labels [n]) of both splits, packed."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:

        def add(name, content):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        add("batches.meta.txt", "\n".join([*CLASSES, ""]).encode())
        parts = zip(*(np.array_split(part, 5) for part in train), strict=True)
        for i, part in enumerate([*parts, test]):
            images, labels = part
            planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
            rows = np.concatenate([labels[:, None], planes], axis=1).astype(np.uint8)
            add("test_batch.bin" if i == 5 else f"data_batch_{i + 1}.bin", rows.tobytes())
    return file.getvalue()


def few(rng, count):
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), rng.integers(0, 10, count)


def scene(rng, height, width):
    """A smooth picture: what a photograph is to a filter."""
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC).filter(
        ImageFilter.GaussianBlur(2)
    )


def file(image, form, **options):
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def lsun(folder):
    """An LMDB as LSUN's: 30 records, one of which is not a picture, one cut off. Returns its content."""
    rng = np.random.default_rng(0)
    contents = [file(scene(rng, 256 + 7 * i, 400 - 5 * i), "JPEG", quality=75) for i in range(26)]
    contents.append(file(scene(rng, 300, 301), "WEBP", quality=75))
    contents.append(file(scene(rng, 90, 70).convert("L"), "JPEG"))
    contents += [contents[0][:300], b"not a picture"]
    keys = [rng.bytes(20).hex().encode() for _ in contents]
    with lmdb.open(str(folder), map_size=2**26) as records, records.begin(write=True) as writing:
        for key, content in zip(keys, contents, strict=True):
            writing.put(key, content)
    return dict(sorted(zip(keys, contents, strict=True)))


def celeb_a_hq(path):
    """A .tar as TFDS asks for of CelebA-HQ: 30 of 256x256, and a file that macOS adds."""
    rng = np.random.default_rng(1)
    contents = {f"data256x256/{i:05d}.png": file(scene(rng, 256, 256), "PNG") for i in range(30)}
    with tarfile.open(path, "w") as tar:
        for name, content in {**contents, "data256x256/._00000.png": b"mac"}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return contents
