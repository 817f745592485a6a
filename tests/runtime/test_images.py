"""Grids of images: every image once, in rows that are full, or that are a class's."""

import numpy as np
import pytest
from etils import epath
from PIL import Image

from ddpm_jax.runtime import images


@pytest.mark.parametrize(
    "count, shape",
    [(1, (1, 1)), (2, (1, 2)), (7, (3, 3)), (8, (2, 4)), (10, (2, 5)), (12, (3, 4)), (16, (4, 4))]
    + [(50, (5, 10)), (64, (8, 8)), (256, (16, 16))],
)
def test_a_grid_is_near_square_with_a_full_last_row_where_the_count_allows(count, shape):
    assert images.layout(count).shape == shape


@pytest.mark.parametrize("classes", [0, 2, 3, 10, 100])
def test_every_image_has_one_place(classes):
    for count in [*range(1, 70), 200, 256]:
        places = images.layout(count, classes)
        rows, columns = places.shape
        assert sorted(places[places != images.EMPTY]) == list(range(count))
        assert rows <= 5 * columns and columns <= 3 * rows + 1
        assert (places != images.EMPTY).any(axis=1).all()


@pytest.mark.parametrize("count, classes", [(64, 10), (20, 10), (64, 2), (250, 10), (30, 3)])
def test_each_class_has_rows_of_its_own(count, classes):
    places = images.layout(count, classes)
    rows = [set(row[row != images.EMPTY] % classes) for row in places]
    assert all(len(row) == 1 for row in rows)
    assert [row.pop() for row in rows] == sorted(list(range(classes)) * (len(places) // classes))


def test_too_few_images_or_too_many_classes_are_a_plain_grid():
    for count, classes in ((10, 10), (16, 10), (256, 100)):
        np.testing.assert_array_equal(images.layout(count, classes), images.layout(count))


def test_a_grid_shows_its_images_in_their_places_on_gray():
    made = np.random.default_rng(0).integers(0, 256, (7, 20, 8, 3), dtype=np.uint8)
    grid = images.grid(made, classes=3)
    places = images.layout(7, 3)
    assert grid.shape == (3 * 20 + 2, 3 * 8 + 2, 3)
    for i in range(3):
        for j in range(3):
            cell = grid[21 * i : 21 * i + 20, 9 * j : 9 * j + 8]
            number = places[i, j]
            expected = images.GAP_GRAY if number == images.EMPTY else made[number]
            np.testing.assert_array_equal(cell, np.broadcast_to(expected, cell.shape))
    assert (grid[20] == images.GAP_GRAY).all() and (grid[:, 8] == images.GAP_GRAY).all()


@pytest.mark.parametrize("shape", [(71, 71, 1), (270, 60, 3), (500, 900, 3), (40, 768, 1)])
def test_a_picture_is_enlarged_by_a_whole_number_to_the_size_of_a_screen(shape, tmp_path):
    made = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    images.write_png(epath.Path(tmp_path) / "grid.png", made)
    with Image.open(tmp_path / "grid.png") as file:
        shown = np.asarray(file).reshape(*file.size[::-1], -1)
    assert max(shown.shape) >= images.SCREEN / 2 and (max(shape) > 768 or max(shown.shape) <= 768)
    scale = shown.shape[0] // shape[0]
    np.testing.assert_array_equal(shown[::scale, ::scale], made)
    np.testing.assert_array_equal(images.original(shown), made)
