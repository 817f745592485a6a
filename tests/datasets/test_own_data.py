"""A data set of the user's own: what its function may return, and what is refused by name."""

import numpy as np
import pytest

from ddpm_jax.datasets import batches, own
from ddpm_jax.datasets.expected import Expected
from ddpm_jax.datasets.source import Source

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), np.uint8)
FILE = "import numpy as np\nfrom ddpm_jax.datasets.source import Source\n"


@pytest.fixture
def data(code):
    """Returns the data section whose function returns what an expression says of 'split'."""
    np.save(code / "images.npy", IMAGES)

    def make(expression, image_size=4, expected=None, parameters="split"):
        name = f"own_data_{abs(hash((expression, parameters)))}"
        loading = f"images = np.load({str(code / 'images.npy')!r})\n"
        body = f"def load({parameters}):\n    return {expression}\n"
        (code / f"{name}.py").write_text(FILE + loading + body)
        return own.Own(f"{name}:load", "where", image_size, "train", "test", False, expected)

    return make


def test_images_are_a_source_as_those_of_any_data_set(data):
    source = data("images").open("train")
    assert (source.count, source.shape, source.levels, source.classes) == (6, (4, 4, 3), 256, 0)
    np.testing.assert_array_equal(source.read(np.array([4, 0])), IMAGES[[4, 0]])
    np.testing.assert_array_equal(batches.load(source).read(np.arange(6)), IMAGES)
    assert data("images").declared() == ((4, 4, 3), 256)


def test_gray_images_may_lack_the_axis_of_channels(data):
    assert data("images[..., 0]").open("train").shape == (4, 4, 1)


def test_labels_are_counted_from_0_and_read_with_the_images(data):
    source = data("images, np.array([0, 2, 1, 0, 2, 1])").open("train")
    assert (source.classes, source.names) == (3, ("0", "1", "2"))
    batch = batches.load(source, labelled=True).batch(np.array([1, 5]), labelled=True)
    np.testing.assert_array_equal(batch.labels, [2, 1])


def test_a_split_that_lacks_the_last_label_has_the_run_s_labels(data):
    section = data("images, np.zeros(6, int)", expected=Expected((4, 4, 3), 256, ("0", "1", "2")))
    assert section.open("test").names == ("0", "1", "2")
    with pytest.raises(ValueError, match="the run's labels are 0: cat, 1: dog"):
        section._replace(expected=Expected((4, 4, 3), 256, ("cat", "dog"))).open("test")


def test_a_source_is_taken_as_it_is(data):
    source = data("Source('mine', images, (4, 4, 3), 17, 2, ('cat', 'dog'))").open("train")
    assert isinstance(source, Source) and (source.levels, source.names) == (17, ("cat", "dog"))


def test_the_function_is_told_the_split_and_data_dir_if_it_takes_it(data):
    by_split, by_folder = "images[:{'a': 1, 'b': 2}[split]]", "images[:len(data_dir)]"
    assert [data(by_split).open(split).count for split in "ab"] == [1, 2]
    assert data(by_folder, parameters="split, data_dir").open("a").count == len("where")


@pytest.mark.parametrize(
    "expression, message",
    [
        ("images / 255.0", "split 'train', has dtype float64; images must be uint8"),
        ("images[..., :2]", "has shape .6, 4, 4, 2.; it must be"),
        ("images[0, 0]", "has shape .4, 3.; it must be"),
        ("images[:0]", "has shape .0, 4, 4, 3.; it must be"),
        ("images, np.zeros(5, int)", "has labels of shape .5,. and dtype int64; they must be 6"),
        ("images, np.full(6, -1)", "they must be 6 integers from 0"),
        ("images, np.zeros(6)", "dtype float64; they must be 6 integers"),
        ("images[:, :3]", "data.image_size is 4, but images of 'own_data_.*' are 3x4"),
    ],
)
def test_anything_else_is_refused_by_name(data, expression, message):
    with pytest.raises(ValueError, match=message):
        data(expression).open("train")


def test_a_run_s_images_are_compared_with_those_of_its_record(data):
    with pytest.raises(ValueError, match="the run's images are 4x4x1 with 17 grey levels"):
        data("images", expected=Expected((4, 4, 1), 17)).open("train")
