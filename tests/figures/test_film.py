"""Films: what their frames hold, for how long, and in how many bytes."""

import itertools

import numpy as np
import pytest
from etils import epath
from PIL import Image
from support.command import ddpm

from ddpm_jax.datasets import pixels
from ddpm_jax.figures import film
from ddpm_jax.run import sampling
from ddpm_jax.runtime import animation, images
from ddpm_jax.runtime.plotting import Film


def frames(path):
    """The frames of a film as RGB, and the milliseconds that each stays."""
    with Image.open(path) as file:
        assert file.info["loop"] == 0  # for ever
        pictures, times = [], []
        for number in range(file.n_frames):
            file.seek(number)
            file.load()
            pictures.append(np.asarray(file.convert("RGB")))
            times.append(file.info["duration"])
    return pictures, times


def shown(frame, place, shape=(8, 8)):
    """The image at (row, column) of a frame of 16 enlarged ones, x_t's in columns 0..3, x_0-hat's in 4..7."""
    (row, column), (height, width) = place, shape
    _, columns, scale = film.panel((*shape, 1))
    size, gap = width * scale, max(1, width * scale // 24)
    left = animation.MARGIN + column * (size + gap) + (column >= columns) * 4 * gap
    top = animation.MARGIN + 2 * animation.LINE + row * (height * scale + gap)
    cell = frame[top : top + height * scale, left : left + size]
    small = cell[::scale, ::scale]
    np.testing.assert_array_equal(cell, small.repeat(scale, 0).repeat(scale, 1))
    return small[..., 0]


def test_sample_with_film_ends_in_the_samples(loud_run):
    """On both sides, in both formats; it begins with noise, and the end stays longest. Training's grids are another."""
    run = loud_run(**{"sample.count": 16})
    for step in (2, 3, 4):
        grid = np.full((40, 40, 1), 50 * step, np.uint8)
        images.write_png(run.directory / "samples" / f"{step}-grid.png", grid)
    status, out, err = ddpm(f"--workdir={run.directory}", "--mode=sample", "--film")
    assert status == 0, err
    assert "4-film.gif, .webp, .json" in out
    (path,) = (run.directory / "samples").glob("*.npz")
    samples = np.load(path)["arr_0"][..., 0]
    program = sampling.make_program(run.model, run.sample.chain)
    x_T = np.asarray(program.begin(sampling.image_keys(run, run.sample.seed, np.arange(8)))[0])
    for suffix in ("gif", "webp"):
        pictures, times = frames(run.directory / "figures" / f"4-film.{suffix}")
        assert len(pictures) == 9 and times[-1] == max(times) > 2000 > times[1]
        for i, image in enumerate(samples):
            for side in (0, 4):
                np.testing.assert_array_equal(
                    shown(pictures[-1], (i // 4, side + i % 4)), image.squeeze()
                )
        first = np.stack([shown(pictures[0], (i // 4, i % 4)) for i in range(8)])
        np.testing.assert_array_equal(first, pixels.quantize(x_T, run.model.levels)[..., 0])
        captions = [picture[: animation.MARGIN + animation.LINE] for picture in pictures]
        for one, other in itertools.combinations(captions, 2):
            assert (one != other).any()  # t is written above each frame
        assert (captions[0] < 128).sum() > 100
        pictures, _ = frames(run.directory / "figures" / f"4-film-training.{suffix}")
        assert [picture[-20, 20, 0] for picture in pictures] == [100, 150, 200]


@pytest.mark.parametrize("steps", [1, 2, 20, 47, 100, 1000])
def test_a_film_goes_from_end_to_end_and_slows_down(steps):
    places = film.marks(steps)
    strides = np.diff(places)
    assert (places[0], places[-1]) == (0, steps) and (strides > 0).all()
    assert len(places) <= film.FRAMES
    assert steps < 100 or strides[0] >= 2 * strides[-1]


def test_panels_have_full_rows_of_few_large_images_or_many_small_ones():
    for shape in ((8, 8, 1), (32, 32, 3), (64, 64, 3), (256, 256, 3), (20, 300, 3), (7, 5, 1)):
        count, columns, scale = film.panel(shape)
        assert 1 <= count <= film.IMAGES and count % columns == 0 and columns >= count // columns
        assert scale >= 1 and (scale == 1 or scale * columns * shape[1] <= film.SIDE)
    assert film.panel((8, 8, 1)) == (16, 4, 10) and film.panel((32, 32, 3)).images == 8
    assert film.panel((256, 256, 3)) == (1, 1, 1)


@pytest.mark.parametrize("shape, levels, megabytes", [((8, 8, 1), 17, 1.5), ((32, 32, 3), 256, 4)])
def test_a_gif_stays_small_even_where_the_whole_way_is_noise(tmp_path, shape, levels, megabytes):
    count, part = film.panel(shape).images, 4
    rng = np.random.default_rng(0)
    noise = rng.integers(0, levels, (2, film.FRAMES // part, count, *shape)) * 255 // (levels - 1)
    noise = noise.astype(np.uint8)
    made = film.sampling_film(noise[0], noise[1], list(range(film.FRAMES // part)))
    animation.save(epath.Path(tmp_path) / "noise", made)
    assert (tmp_path / "noise.gif").stat().st_size * part < megabytes * 1e6


def test_two_times_the_same_film_are_the_same_bytes(tmp_path):
    grids = np.random.default_rng(0).integers(0, 256, (3, 20, 30, 3), dtype=np.uint8)
    made = Film(list(grids), ["step 1", "step 2", "step 3"], [100, 100, 900])
    for name in ("one", "other"):
        animation.save(epath.Path(tmp_path) / name, made)
    for suffix in ("gif", "webp"):
        one, other = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "other"))
        assert one == other
    assert [(part == grid).all() for part, grid in zip(inner(tmp_path), grids, strict=True)]


def inner(folder):
    pictures, _ = frames(folder / "one.webp")
    return [
        each[animation.MARGIN + animation.LINE : -animation.MARGIN, animation.MARGIN :][:, :30]
        for each in pictures
    ]


def test_training_s_grids_are_a_film_in_the_order_of_their_steps(tmp_path):
    """Up to the checkpoint's step, without grids of another size; two of them are no film."""

    class Stub:
        directory = epath.Path(tmp_path)

    def found(step):
        return [grid.step for grid in film.training_grids(film.TrainedRun(Stub, step, *3 * [None]))]

    for step, count in ((20, 16), (3, 16), (100, 16), (9, 16), (5, 4), (200, 16)):
        grid = images.grid(np.full((count, 8, 8, 1), step, np.uint8))
        images.write_png(epath.Path(tmp_path) / "samples" / f"{step}-grid.png", grid)
    (tmp_path / "samples" / "best-grid.png").write_bytes(b"")
    assert found(100) == [3, 9, 20, 100] and found(9) == [3, 9] and found(2) == []
    for step in range(1000, 1100):
        path = tmp_path / "samples" / f"{step}-grid.png"
        path.write_bytes((tmp_path / "samples" / "9-grid.png").read_bytes())
    many = found(2000)
    assert len(many) == film.GRID_FRAMES and many[0] == 3 and many[-1] == 1099


def test_a_grid_is_enlarged_or_shrunk_by_whole_numbers(tmp_path):
    """Whatever it was enlarged by in its file."""
    path = epath.Path(tmp_path) / "grid.png"
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (1500, 900, 3), dtype=np.uint8)
    images.write_png(path, large)
    means = large.reshape(500, 3, 300, 3, 3).mean((1, 3))
    np.testing.assert_allclose(film.read_grid(path), means, atol=1.0)
    small = rng.integers(0, 256, (71, 60, 1), dtype=np.uint8)
    images.write_png(path, small)
    with Image.open(path) as file:
        assert file.size == (600, 710)
    np.testing.assert_array_equal(film.read_grid(path)[..., :1], small)
    made = film.training_film([film.TrainingGrid(1, film.read_grid(path))])
    np.testing.assert_array_equal(made.frames[0][..., :1], small.repeat(7, 0).repeat(7, 1))
    assert made.exact
