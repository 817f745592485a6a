"""Checkpoints whose files are not what was written: never a wrong number, always a name."""

import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec
from support.training import assert_equal, newest, stub_of, trained

from ddpm_jax.distributed import mesh as meshes
from ddpm_jax.run import sampling
from ddpm_jax.runtime import checkpoint, digest
from ddpm_jax.training import train

# TensorStore's asynchronous tasks are left behind where a file cannot be read.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
EVERYWHERE = meshes.replicated_sharding(meshes.mesh(1))


def abstract(tree):
    return checkpoint.abstract(tree, jax.tree.map(lambda leaf: EVERYWHERE, tree))


def tree(step):
    """Arrays of many kinds, different at every step."""
    key = jax.random.key(step)
    return {
        "kernel": jax.random.normal(key, (3, 3, 16, 32)),
        "half": jax.random.normal(key, (40,)).astype(jnp.bfloat16),
        "nested": {"mask": jax.random.bernoulli(key, shape=(7,))},
        "count": jnp.asarray(step, jnp.int32),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of steps 1 and 2."""
    folder = epath.Path(tmp_path_factory.mktemp("checkpoints"))
    with checkpoint.manager(folder, keep=5, keep_every=0, keep_best="loss") as manager:
        for step in (1, 2):
            checkpoint.save(manager, step, tree(step), {"loss": 1.0 / step})
        manager.wait_until_finished()
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return epath.Path(shutil.copytree(saved, tmp_path / "copy"))


def read(folder):
    """The newest whole checkpoint, what was told on the way, and the damaged steps."""
    told = []
    like = abstract(jax.eval_shape(lambda: tree(0)))
    step, found, damaged = checkpoint.restore_newest(folder, like, told.append)
    assert_equal(found, tree(step))  # whatever was done to it: never a wrong number
    return step, told, damaged


def files_of(folder):
    return sorted(
        path for path in Path(folder).rglob("*") if path.is_file() and path.stat().st_size
    )


@pytest.mark.parametrize("saves", [1, 2])
def test_a_save_that_cannot_be_read_back_is_not_called_one(tmp_path, saves):
    """Orbax's merge takes the folder for a pattern: it finds nothing to merge, and reports no failure."""
    folder = epath.Path(tmp_path) / "lr=[1e-4]"
    folder.mkdir()
    with checkpoint.manager(folder, keep=5, keep_every=0, keep_best="") as manager:
        checkpoint.save(manager, 1, tree(1), {})
        with pytest.raises(checkpoint.Damaged, match="/1 was saved and cannot be read"):
            checkpoint.save(manager, 2, tree(2), {}) if saves == 2 else checkpoint.finish(manager)
    with checkpoint.manager(folder.with_name("lr=1e-4"), 5, 0, "") as manager:
        checkpoint.save(manager, 1, tree(1), {})
        checkpoint.finish(manager)
        assert manager.latest_step() == 1


def test_a_digest_is_the_same_for_every_sharding_and_by_numpy():
    mesh = meshes.mesh(8)
    for dtype in (jnp.float32, jnp.bfloat16, jnp.int32, jnp.bool_, jnp.uint8):
        array = (jax.random.normal(jax.random.key(1), (16, 24)) * 9).astype(dtype)
        placed = [
            jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
            for spec in ((), ("data",), (None, "data"))
        ]
        by_numpy = int(digest.digest_on_host(np.asarray(array)))
        assert {by_numpy} == {int(digest.digest(each)) for each in (array, *placed)}
        assert {by_numpy} == {int(digest.start_digest(each)) for each in (array, *placed)}


def test_numpy_s_digest_takes_scalars_views_and_what_jax_has_no_type_for(x64):
    rows = np.arange(24, dtype=np.int64).reshape(4, 6) - 7
    for array in (rows, rows.T, rows[::2], rows.astype(np.float64), np.asarray(3.5), rows[:0]):
        assert int(digest.digest_on_host(array)) == int(digest.digest(jnp.asarray(array)))


def test_a_large_array_is_digested_where_it_lies(monkeypatch):
    monkeypatch.setattr(digest, "LARGE", 4)
    monkeypatch.setattr(digest, "digest_on_host", lambda array: np.uint32(7))
    assert digest.start_digest(jnp.ones(3)) == 7 != digest.start_digest(jnp.ones(4))


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.uint8])
def test_a_digest_sees_every_single_bit_and_every_swap(dtype):
    array = np.arange(12).astype(dtype)
    changed = [array[[1, 0, *range(2, 12)]]]
    for bit in range(array.nbytes * 8):
        flipped = bytearray(array.tobytes())
        flipped[bit // 8] ^= 1 << bit % 8
        changed.append(np.frombuffer(bytes(flipped), dtype))
    digests = {int(digest.digest(jnp.asarray(each))) for each in (array, *changed)}
    assert len(digests) == 2 + array.nbytes * 8
    assert digests == {int(digest.digest_on_host(each)) for each in (array, *changed)}


def test_minus_zero_is_not_zero_and_nan_is_itself():
    digests = [int(digest.digest(jnp.full(3, value))) for value in (0.0, -0.0, jnp.nan, jnp.nan)]
    assert digests[0] != digests[1] and digests[2] == digests[3]


def test_one_flipped_bit(saved, tmp_path):
    """50 times, at a random place among the bytes of the newest checkpoint or of the one before."""
    fallen_back = 0
    for seed in range(50):
        copy = epath.Path(shutil.copytree(saved, tmp_path / str(seed)))
        flipped = 2 if seed % 5 else 1
        flip(copy / str(flipped), seed)
        step, told, damaged = read(copy)
        assert (step, damaged) in ([(2, set()), (1, {2})] if flipped == 2 else [(2, set())])
        assert len(told) == len(damaged) and all(f"{copy}/2" in line for line in told)
        fallen_back += len(damaged)
    assert fallen_back >= 25  # the others were in bytes that nothing depends on


def flip(folder, seed):
    rng = np.random.default_rng(seed)
    files = files_of(folder)
    sizes = np.array([file.stat().st_size for file in files])
    file = files[rng.choice(len(files), p=sizes / sizes.sum())]
    content = bytearray(file.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["deleted", "truncated", "emptied"])
def test_each_file_in_turn(saved, tmp_path, how):
    fallen_back = 0
    for number, original in enumerate(files_of(saved / "2")):
        copy = epath.Path(shutil.copytree(saved, tmp_path / str(number)))
        file = copy / original.relative_to(Path(saved))
        if how == "deleted":
            file.unlink()
        else:
            file.write_bytes(
                file.read_bytes()[: len(file.read_bytes()) // 2 if how[0] == "t" else 0]
            )
        found, told, damaged = read(copy)
        assert found == (1 if damaged else 2) and len(told) == len(damaged)
        goes_on(copy, damaged)
        fallen_back += len(damaged)
        if damaged:
            assert f"{copy}/2/" in told[0] and len(told[0]) < 700
    assert fallen_back >= 3


def goes_on(copy, damaged):
    """As a resumed run does: what is damaged is set aside, and saving begins again."""
    checkpoint.set_aside(copy, damaged)
    with checkpoint.manager(copy, keep=5, keep_every=0, keep_best="loss") as manager:
        for step in (2, 3):
            checkpoint.save(manager, step, tree(step), {"loss": 1.0})
        manager.wait_until_finished()
    assert read(copy)[0] == 3
    names = {path.name for path in copy.iterdir()}
    assert names == {"1", "2", "3", *(f"{step}.damaged" for step in damaged)}


def test_damaged_metrics_of_an_older_checkpoint_do_not_stop_a_resumed_run(copy):
    record = copy / "1" / checkpoint.RECORD / "metadata"
    record.write_text(record.read_text()[:40])
    assert read(copy) == (2, [], set())
    with checkpoint.manager(copy, keep=1, keep_every=0, keep_best="loss") as manager:
        checkpoint.save(manager, 3, tree(3), {"loss": 1.0})
        manager.wait_until_finished()
        assert set(manager.all_steps()) == {2, 3}  # 2, of a loss of 0.5, is still the best


def test_a_bucket_s_first_checkpoint_that_was_cut_off_is_none(tmp_path, monkeypatch):
    """There Orbax writes into the step's own folder, and marks it when it is whole."""
    (tmp_path / "2").mkdir()
    monkeypatch.setattr(checkpoint, "reader", lambda directory: Reader())
    assert checkpoint.restore_newest(epath.Path(tmp_path), {}, print) is None


class Reader:
    """Orbax's manager over a bucket that holds no finished checkpoint."""

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    def all_steps(self):
        return []


def test_a_wrong_dtype_shape_or_name_is_named(copy):
    like = abstract(jax.eval_shape(lambda: tree(0)))
    for change, words in (
        ({"kernel": jax.ShapeDtypeStruct((3, 3, 16, 32), jnp.bfloat16)}, "kernel was .* float32"),
        (
            {"kernel": jax.ShapeDtypeStruct((3, 3, 16, 33), jnp.float32)},
            r"kernel was .* \[3, 3, 16",
        ),
        ({"kernal": jax.ShapeDtypeStruct((3,), jnp.float32)}, "kernal is missing"),
    ):
        with (
            checkpoint.reader(copy) as manager,
            pytest.raises(checkpoint.Damaged, match=f"{copy}/2 .*{words}"),
        ):
            checkpoint.restore(manager, 2, abstract(like | change))


def damage(folder, step):
    """Flips a bit of the arrays' data, which Orbax lets through."""
    data = max(files_of(folder / str(step)), key=lambda file: file.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 4
    data.write_bytes(bytes(content))


def test_training_sets_a_damaged_checkpoint_aside_and_ends_where_it_would_have(
    tiny, tmp_path, capsys
):
    whole = trained(stub_of(tiny, tmp_path / "whole"))
    run = stub_of(tiny, tmp_path / "damaged")
    trained(run)
    checkpoints = run.directory / "checkpoints"
    damage(checkpoints, 6)
    sampling.generate(run)  # reads only: it uses step 4 and moves nothing
    assert list((run.directory / "samples").glob("4-*.npz"))
    assert {path.name for path in checkpoints.iterdir()} == {"2", "4", "6"}
    capsys.readouterr()
    assert_equal(trained(run), whole)
    said = capsys.readouterr().out
    assert f"{checkpoints}/6" in said and "resuming from step 4" in said
    assert {path.name for path in checkpoints.iterdir()} == {"2", "4", "6", "6.damaged"}


def test_where_no_checkpoint_is_whole_it_stops_and_changes_nothing(tiny, tmp_path):
    run = stub_of(tiny, tmp_path, **{"train.steps": 2})
    trained(run)
    damage(run.directory / "checkpoints", 2)
    before = {path: path.read_bytes() for path in files_of(epath.Path(tmp_path))}
    for program in (train.train, sampling.generate):
        with pytest.raises(checkpoint.Damaged, match=f"no checkpoint is left.*{tmp_path}"):
            program(run)
    assert {path: path.read_bytes() for path in files_of(epath.Path(tmp_path))} == before


def test_a_checkpoint_without_digests_is_not_trusted(tiny, tmp_path):
    run = stub_of(tiny, tmp_path, **{"train.steps": 2})
    trained(run)
    (run.directory / "checkpoints" / "2" / checkpoint.RECORD).rmtree()
    with pytest.raises(checkpoint.Damaged):
        newest(run)
