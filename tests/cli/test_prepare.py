"""Data sets that prepare themselves, without TensorFlow."""

import hashlib
import http.server
import io
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from support import sources

from ddpm_jax.datasets import batches, cifar10, library, source


@pytest.fixture
def published(monkeypatch):
    """Serves an archive at a local address, as if the authors' were it; returns what to call."""

    def publish(content, checksum=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if content else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz"
        checksum = checksum or hashlib.sha256(content).hexdigest()
        info = tfds.download.checksums.UrlInfo(len(content), checksum, "cifar-10-binary.tar.gz")
        monkeypatch.setattr(cifar10, "URL", url)
        monkeypatch.setattr(cifar10.Cifar10, "url_infos", {url: info})

    servers = []
    yield publish
    for server in servers:
        server.shutdown()


def records(data_dir, split):
    """Every record in the order of the files: id, label, decoded image."""
    source = tfds.builder("cifar10", data_dir=str(data_dir)).as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    for record in source:
        name = record["id"].decode() if isinstance(record["id"], bytes) else record["id"]
        yield name, int(record["label"]), np.asarray(Image.open(io.BytesIO(record["image"])))


def test_cifar10_prepares_itself_from_the_authors_archive(published, tmp_path):
    rng = np.random.default_rng(0)
    train, test = sources.few(rng, 25), sources.few(rng, 7)
    published(sources.archive(train, test))
    builder = library.open_builder("cifar10", str(tmp_path))
    assert builder.info.features["label"].names == sources.CLASSES
    for split, (images, labels) in (("train", train), ("test", test)):
        found = list(records(tmp_path, split))
        assert sorted(name for name, *_ in found) == [
            f"{split}_{i:05d}" for i in range(len(labels))
        ]
        for name, label, image in found:
            index = int(name[-5:])
            assert label == labels[index]
            np.testing.assert_array_equal(image, images[index])
    assert "tensorflow" not in sys.modules
    loaded = batches.load(source.open_data_set("cifar10", str(tmp_path), "train", 32))
    assert (loaded.count, loaded.shape, loaded.levels) == (25, (32, 32, 3), 256)


def test_the_official_archive_is_known_by_its_checksum():
    """As published on its page: 162 MB, and TFDS's record of it."""
    info = cifar10.Cifar10.url_infos[cifar10.URL]
    assert info.size == 170_052_171 and info.checksum.startswith("c4a38c50a1bc5f3a")


def test_another_archive_than_the_authors_is_refused(published, tmp_path):
    rng = np.random.default_rng(0)
    published(sources.archive(sources.few(rng, 5), sources.few(rng, 5)), checksum="0" * 64)
    with pytest.raises(RuntimeError, match="preparing data set 'cifar10' failed: .*checksum"):
        library.open_builder("cifar10", str(tmp_path))
    assert not list(tmp_path.glob("cifar10/*/dataset_info.json"))


@pytest.mark.slow
@pytest.mark.skipif("DDPM_JAX_TFDS" not in os.environ, reason="no prepared CIFAR-10 was named")
def test_the_whole_of_it_equals_what_tfds_prepares_record_by_record(published, tmp_path):
    """All 60,000 images, against TFDS's own preparation."""
    original = Path(os.environ["DDPM_JAX_TFDS"])

    def split(name):
        rows = sorted(records(original, name), key=lambda row: row[0])
        return np.stack([row[2] for row in rows]), np.array([row[1] for row in rows])

    published(sources.archive(split("train"), split("test")))
    library.open_builder("cifar10", str(tmp_path))
    assert "tensorflow" not in sys.modules
    for name, count in (("train", 50_000), ("test", 10_000)):
        pairs = zip(records(tmp_path, name), records(original, name), strict=True)
        seen = 0
        for ours, theirs in pairs:
            assert ours[:2] == theirs[:2]
            np.testing.assert_array_equal(ours[2], theirs[2])
            seen += 1
        assert seen == count
    for file in ("features.json", "label.labels.txt"):
        found = (tmp_path / "cifar10" / "3.0.2" / file).read_text()
        assert found == (original / "cifar10" / "3.0.2" / file).read_text()
