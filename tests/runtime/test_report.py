"""What a run leaves for TensorBoard, and rows that a bad disk has changed."""

import numpy as np
import pytest
from etils import epath
from support.events import events, scalars

from ddpm_jax.runtime import metrics_log


def test_scalars_images_and_the_restart_are_there_at_once(tmp_path):
    writer = metrics_log.writer(epath.Path(tmp_path), 0)
    writer.write_scalars(5, {"loss": 0.25})
    writer.write_images(5, {"samples": np.zeros((4, 6, 3), np.uint8)})
    found = list(events(tmp_path))  # before it is closed: a killed process closes nothing
    values = [(each.step, value.tag) for each in found for value in each.summary.value]
    assert values == [(5, "loss"), (5, "samples")]
    scalar, image = (value for each in found for value in each.summary.value)
    assert scalar.simple_value == 0.25
    assert (image.image.height, image.image.width, image.image.colorspace) == (4, 6, 3)
    starts = [each.step for each in found if each.HasField("session_log")]
    assert starts == [1]
    writer.close()


def test_what_is_measured_is_a_series_of_its_own_beside_trainings(tmp_path):
    """Of one folder TensorBoard reads the newest file only, and training, which restarts, drops what is later."""
    folder = epath.Path(tmp_path)
    writer = metrics_log.writer(folder, 0)
    metrics_log.write_measurement(folder, 4, {"bits_per_dim_test": 2.5})
    metrics_log.write_measurement(folder, 2, {"fid_12": 31.0, "kid_12": 0.5})
    writer.write_scalars(5, {"loss": 0.25})
    writer.close()
    assert scalars(tmp_path) == [(5, "loss", 0.25)]
    assert sorted(scalars(tmp_path / "eval")) == [
        (2, "fid_12", 31.0),
        (2, "kid_12", 0.5),
        (4, "bits_per_dim_test", 2.5),
    ]
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["metrics.jsonl"]


def test_rows_that_cannot_be_read_are_dropped_and_the_others_kept_as_they_are(tmp_path):
    kept = '{"step": 2, "loss": 1.0}\n'
    rows = [kept, '{"step": 4, "lo\x00s": 1}\n', "[]\n", "4\n", '{"step": 9}\n', '{"step": 4']
    (tmp_path / "metrics.jsonl").write_bytes("".join(rows).encode() + b"\xff\xfe")
    writer = metrics_log.writer(epath.Path(tmp_path), 4)
    assert (tmp_path / "metrics.jsonl").read_text() == kept
    assert writer.newest() == {"loss": 1.0}
    writer.close()


def test_a_write_that_fails_says_so(tmp_path, monkeypatch):
    """Not in a thread, which would die and leave the run waiting for it."""
    writer = metrics_log.writer(epath.Path(tmp_path), 0)

    def full(event):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.events, "write_event", full)
    with pytest.raises(OSError, match="No space left"):
        writer.write_scalars(5, {"loss": 0.25})
