"""Archives as files: their size on disk, what their headers may say, and that none is ever silently wrong."""

import numpy as np
import pytest
from support.gaussian_source import codec, images, predict

from ddpm_jax.codec import archive, archive_header, chain, file_header, image_file
from ddpm_jax.codec.archive_header import Entry, Header, Standalone
from ddpm_jax.codec.errors import (
    CodecError,
    CorruptStream,
    EnvironmentMismatch,
    HeaderCorrupt,
    ModelMismatch,
    NotADjxFile,
    TruncatedStream,
    UnsupportedVersion,
)

SMALL, TINY = (8, 8, 3), (8, 8, 1)
ENTRIES = [
    Entry("a", 1, None),
    Entry("ä b", 2**32 - 1, Standalone(255, 31, 200)),
    Entry("c", 3, Standalone(0, 0, 0)),
]
HEADER = Header(12, 30, b"8 bytes.", 77, TINY, 500, b"", ENTRIES)


@pytest.fixture(scope="module")
def packed():
    """Five images, some of them stored by bits back, and their archive."""
    many = images(TINY, 5, seed=3)
    data = archive.archive(many, codec(TINY), ["one", "two", "three", "four", "five"])
    return many, data


def test_an_archive_returns_every_image_and_its_name(packed):
    many, data = packed
    header, _ = archive_header.unpack(data)
    kinds = [entry.standalone is None for entry in header.entries]
    assert any(kinds) and not kinds[-1]
    found = archive.unarchive(data, codec(TINY))
    assert [member.name for member in found] == ["one", "two", "three", "four", "five"]
    assert all((member.image == image).all() for member, image in zip(found, many, strict=True))
    assert [
        each.name for each in archive.unarchive(archive.archive(many[:2], codec(TINY)), codec(TINY))
    ] == ["0", "1"]


@pytest.mark.parametrize("count", [1, 10, pytest.param(100, marks=pytest.mark.slow)])
def test_many_images_take_less_space_in_an_archive_than_in_files(tmp_path, count):
    """One image is as large as its file; of many, each is smaller, but not impossibly small."""
    many, of = images(SMALL, count, seed=1), codec(SMALL)
    path = tmp_path / "all.djxa"
    path.write_bytes(archive.archive(many, of))
    apart = [len(image_file.compress(image, of)) for image in many[:10]]
    size = path.stat().st_size / count
    if count == 1:
        assert abs(size - apart[0]) < 40
    else:
        assert size < np.mean(apart) * {10: 0.85, 100: 0.78}[count]
        assert size > np.mean(apart) * 0.6
    found = archive.unarchive(path.read_bytes(), of)
    assert all((member.image == image).all() for member, image in zip(found, many, strict=True))


def test_an_image_that_the_chain_cannot_code_is_stored_by_itself():
    """Pixels that no model expects, and outputs at a rounding boundary; every image still comes back."""
    many = images(TINY, 6)
    many[1] = np.random.default_rng(0).integers(0, 256, TINY)
    of = codec(TINY)
    data = archive.archive(many, of)
    assert all(
        (member.image == image).all()
        for member, image in zip(archive.unarchive(data, of), many, strict=True)
    )
    starts = {chain.initial_state(of, nonce).tobytes() for nonce in range(3)}

    def edge(x_t, t):
        """Too close at t = 1, except in chains that start as those of separate files do."""
        if t == of.calibration.times[0]:
            edge.own = np.round(x_t * 65536).astype(np.int64).tobytes() in starts
        close = t == 1 and not edge.own
        edge.own = edge.own and t > 1
        return np.full_like(x_t, 0.5 / 1024 + 1e-13) if close else predict(x_t, t)

    edge.own = False
    data = archive.archive(many[:4], codec(TINY, predict=edge))
    assert all(entry.standalone for entry in archive_header.unpack(data)[0].entries)
    found = archive.unarchive(data, codec(TINY))
    assert all((member.image == image).all() for member, image in zip(found, many, strict=False))


def test_a_change_to_any_byte_of_the_header_is_refused(packed):
    _, data = packed
    start = archive_header.unpack(data)[1]
    of = codec(TINY)
    for place in range(start):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        with pytest.raises(CodecError):
            archive.read_header(bytes(changed), of)


def test_a_change_to_the_payload_raises_or_gives_the_same_pixels(packed):
    many, data = packed
    start, raised = archive_header.unpack(data)[1], 0
    for place in np.random.default_rng(0).choice(8 * (len(data) - start), 16, replace=False):
        changed = bytearray(data)
        changed[start + place // 8] ^= 1 << (place % 8)
        try:
            found = archive.unarchive(bytes(changed), codec(TINY))
        except CorruptStream:
            raised += 1
        else:
            assert all((a.image == b).all() for a, b in zip(found, many, strict=True))
    assert raised > 13


def test_every_prefix_is_reported_as_incomplete(packed):
    _, data = packed
    of = codec(TINY)
    for length in range(len(data)):
        with pytest.raises((NotADjxFile, TruncatedStream) if length < 1 else TruncatedStream):
            archive.read_header(data[:length], of)
    with pytest.raises(CorruptStream, match="its header says"):
        archive.read_header(data + b"\0", codec(TINY))


def test_archives_of_another_model_or_machine_are_refused(packed):
    _, data = packed
    with pytest.raises(ModelMismatch, match=b"gaussian".hex()):
        archive.unarchive(data, codec(TINY, name=b"another."))
    with pytest.raises(EnvironmentMismatch, match="portable"):
        archive.unarchive(data, codec(TINY)._replace(environment=b"here"))
    with pytest.raises(EnvironmentMismatch, match="computes other coding tables"):
        archive.unarchive(
            data, codec(TINY)._replace(signal=codec(TINY).signal * np.linspace(1, 0.9, 1001))
        )
    with pytest.raises(CorruptStream):
        archive.unarchive(data, codec(TINY, predict=lambda x_t, t: 0.99 * predict(x_t, t)))


@pytest.mark.parametrize("header", [HEADER, HEADER._replace(environment=b"here")])
def test_a_header_is_read_as_it_was_written(header):
    content = archive_header.pack(header)
    assert archive_header.unpack(content + b"payload") == (header, len(content))
    unnamed = header._replace(entries=[entry._replace(name="") for entry in ENTRIES])
    assert archive_header.unpack(archive_header.pack(unnamed))[0] == unnamed
    with pytest.raises(UnsupportedVersion, match="version 9"):
        archive_header.unpack(content[:4] + b"\x09" + content[5:])
    with pytest.raises(NotADjxFile):
        archive_header.unpack(b"DJXC" + content[4:])


def resealed(header, **changes):
    """A header with numbers that no archive has, and a right checksum."""
    return archive_header.pack(header._replace(**changes))


HOSTILE = {
    "shape": lambda: resealed(HEADER, shape=(2**20, 2**20, 3)),
    "no pixels": lambda: resealed(HEADER, shape=(0, 8, 1)),
    "payload": lambda: resealed(HEADER, payload=2**34),
    "nu": lambda: resealed(HEADER, nu=60),
    "steps": lambda: resealed(HEADER, steps=0),
    "size": lambda: resealed(HEADER, entries=[Entry("a", 1, Standalone(0, 0, 2**34))]),
    "scale": lambda: resealed(HEADER, entries=[Entry("a", 1, Standalone(0, 99, 3))]),
    "nothing below": lambda: resealed(HEADER, entries=[Entry("a", 1, None)]),
    "count": lambda: counted(2**30),
    "no images": lambda: counted(0),
    "fewer names": lambda: counted(2),
}


def counted(images):
    """A header with another number of images before the same directory."""
    content = archive_header.pack(HEADER)
    known = archive_header.read_sizes(content)
    listed = content[known.directory_start : known.directory_start + known.directory]
    sizes = (*TINY, images, len(listed), 500)
    content = content[:16] + b"".join(map(file_header.varint, sizes)) + bytes(4) + listed
    return content + archive_header.zlib.crc32(content).to_bytes(4, "little")


@pytest.mark.parametrize("how", HOSTILE)
def test_numbers_that_no_archive_has_are_refused_even_if_the_checksum_is_right(how):
    with pytest.raises(HeaderCorrupt):
        archive_header.unpack(HOSTILE[how]() + bytes(500))


@pytest.mark.parametrize(
    "names",
    [
        ["a", "../b"],
        ["a", "/etc/b"],
        ["a", "b\\c"],
        ["a", "."],
        ["a", ""],
        ["a", "a"],
        ["a", "b\0"],
        ["a", "b" * 999],
    ],
)
def test_unsafe_names_are_neither_written_nor_read(names, monkeypatch):
    with pytest.raises(ValueError, match="name"):
        archive.archive(images(TINY, 2), codec(TINY), names)
    with monkeypatch.context() as patched:
        patched.setattr(archive_header, "check_names", lambda names: None)
        content = archive_header.pack(
            HEADER._replace(entries=[Entry(name, 1, Standalone(0, 0, 9)) for name in names])
        )
    with pytest.raises(HeaderCorrupt, match="names"):
        archive_header.unpack(content)


def test_names_that_inflate_without_end_are_refused(monkeypatch):
    monkeypatch.setattr(archive_header, "check_names", lambda names: None)
    content = archive_header.pack(
        HEADER._replace(entries=[Entry("a" * 10**7, 1, Standalone(0, 0, 9))])
    )
    with pytest.raises(HeaderCorrupt, match="names"):
        archive_header.unpack(content)


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        archive.archive([], codec(TINY))
    with pytest.raises(ValueError, match="8x8x3; this model's are 8x8x1"):
        archive.archive(images(SMALL, 1), codec(TINY))
