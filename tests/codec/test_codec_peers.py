"""The codec's range coder beside that of constriction (arXiv:2201.01741): equally short streams from the same laws."""

import numpy as np
import pytest

from ddpm_jax.codec import last_layer


@pytest.mark.slow
@pytest.mark.parametrize("levels, spread", [(256, 0.6), (256, 3.0), (256, 9.0), (17, 0.4)])
def test_the_range_coder_is_within_two_words_of_constrictions(levels, spread):
    """With the last layer's tables and 12,288 pixels; both coders return every symbol."""
    stream = pytest.importorskip("constriction").stream
    random = np.random.default_rng(levels)
    grid = random.integers(-1024, 1025, (64, 64, 3))
    around = (grid / 1024 + 1) * (levels - 1) / 2 + spread * random.normal(size=grid.shape)
    image = np.clip(np.round(around), 0, levels - 1).astype(np.uint8)
    scale, ours = last_layer.encode(grid, image, levels)
    assert (last_layer.decode(grid, scale, ours, levels, True)[0] == image).all()

    law = last_layer.pixel_laws(grid, levels)
    symbols = last_layer.to_symbols(law, image.reshape(-1).astype(np.int64))
    assert symbols.min() > 0 and symbols.max() < last_layer.SYMBOLS - 1  # no escapes among them
    first, last = last_layer.extremes(law)
    every = np.arange(last_layer.SYMBOLS)[:, None]
    edges = [last_layer.intervals(law, scale, np.full(len(first), each[0])) for each in every]
    counts = np.array([end - start for start, end in edges])
    counts = np.where((first <= every) & (every <= last), counts, 0)
    assert (counts.sum(axis=0) == last_layer.TOTAL).all()
    model = stream.model.Categorical(perfect=False)
    laws = np.ascontiguousarray(counts.T / last_layer.TOTAL)
    coder = stream.queue.RangeEncoder()
    coder.encode(symbols.astype(np.int32), model, laws)
    theirs = coder.get_compressed()
    assert (stream.queue.RangeDecoder(theirs).decode(model, laws) == symbols).all()
    assert abs(len(ours) - theirs.nbytes) <= 8, (len(ours), theirs.nbytes)
