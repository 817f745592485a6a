"""Weights in: names, shapes and what they say of a run; what cannot be imported, in one line. Out: the same again."""

import importlib
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import CONFIGS, ROOT
from etils import epath
from safetensors.numpy import load_file, save_file
from support import loud, release
from support.release import CIFAR, LARGE, SMALL

import ddpm_jax
from ddpm_jax import diffusion, parameterization
from ddpm_jax.cli import command_line
from ddpm_jax.config import config_file
from ddpm_jax.run import run, state
from ddpm_jax.weights import (
    diffusers,
    exporting,
    formats,
    imported_config,
    importing,
    program,
    tensor_files,
)
from ddpm_jax.weights import source as weights_source
from ddpm_jax.weights.source import Source


def shapes_only(shapes):
    """Tensors of zeros that take no memory."""
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def source_of(tensors, format="tf1", step=None) -> Source:
    made = weights_source.from_release(epath.Path("nowhere"), tensors, step)
    assert made.format == format
    return made


def run_of(source: Source, folder, base="", **fields) -> run.Run:
    config = imported_config.build_config(source, base)
    config.parallel.devices = 1
    for section, changed in fields.items():
        config[section].update(changed)
    return importing.build_run(config, epath.Path(folder), source)


@pytest.mark.parametrize("what, tensors", [(CIFAR, 328), (LARGE, 450)])
@pytest.mark.parametrize("format", formats.FORMATS)
def test_every_variable_of_the_release_has_one_place_here(what, tensors, format, tmp_path):
    """By the graph of their code; and nothing of ours is without one."""
    shapes = release.variables(*what)
    assert len(shapes) == tensors
    run = run_of(source_of(shapes_only(shapes)), tmp_path)
    params = state.abstract(run).params
    known = formats.tensor_names(format, params)
    assert len(set(known.values())) == tensors
    if format == "tf1":
        assert {name: leaf.shape for name, leaf in found_by(known, params)} == shapes
    if format == "pesser":
        theirs = release.by_pesser(shapes_only(shapes))
        form = formats.FORMATS[format]
        for path, leaf in formats.digest.leaves_by_path(params).items():
            there = formats.to_foreign_layout(
                form, path, np.broadcast_to(np.float32(0), leaf.shape)
            )
            assert theirs[known[path]].shape == there.shape


@pytest.mark.parametrize(
    "ours, theirs",
    {
        "down_1/block_0/temb_proj/bias": "down_blocks.1.resnets.0.time_emb_proj.bias",
        "mid/block_1/conv1/kernel": "mid_block.resnets.0.conv1.weight",
        "up_3/block_0/conv1/kernel": "up_blocks.0.resnets.0.conv1.weight",
        "up_3/upsample/conv/kernel": "up_blocks.0.upsamplers.0.conv.weight",
        "up_0/block_2/norm1/scale": "up_blocks.3.resnets.2.norm1.weight",
    }.items(),
)
def test_diffusers_numbers_the_way_up_as_it_runs(ours, theirs):
    """Names in google/ddpm-cifar10-32, whose first block on the way up is our last level's."""
    assert formats.diffusers(ours, 4) == theirs


def found_by(known, params):
    return [(known[path], leaf) for path, leaf in formats.digest.leaves_by_path(params).items()]


@pytest.mark.parametrize(
    "what, base, variance",
    [(CIFAR, "cifar10", "fixed_large"), (LARGE, "celebahq256", "fixed_small")],
)
def test_the_config_is_the_papers(what, base, variance, tmp_path):
    """What the names and shapes say is what configs/ has for the same model."""
    source = source_of(shapes_only(release.variables(*what)))
    config = imported_config.build_config(source, f"{CONFIGS}/{base}.py")
    assert config.to_dict() == config_file.load(f"{CONFIGS}/{base}.py").to_dict()
    assert config.diffusion.variance == variance


def test_twice_the_channels_are_a_learned_variance(tmp_path):
    source = source_of(shapes_only(release.variables(*CIFAR, out=6)))
    run = run_of(source, tmp_path)
    assert run.config["diffusion"]["variance"] == "learned" and run.model.network.out_channels == 6
    assert any("unless --config=FILE says otherwise" in note for note in source.notes)


@pytest.mark.parametrize(
    "name, base",
    [
        ("diffusion_cifar10_model/model.ckpt-790000", "cifar10.py"),
        ("google/ddpm-celebahq-256", "celebahq256.py"),
        ("ddpm-ema-cat-256", "lsun_cat256.py"),
        ("ema_lsun_church/model-4432000.ckpt", "lsun_church256.py"),
        ("located/somewhere", "image_folder.py"),
        ("cathedrals-256", "image_folder.py"),
        ("ddpm-cifar100-32", "image_folder.py"),
    ],
)
def test_the_name_says_which_data(name, base):
    what = CIFAR if "cifar" in name else LARGE
    source = source_of(shapes_only(release.variables(*what)))._replace(path=epath.Path(name))
    assert imported_config.find_base(source).name == base
    others = (source.shape[0], 2 * source.shape[1], 3), (*source.shape[:2], 1)
    for shape in others:
        assert imported_config.find_base(source._replace(shape=shape)).name == "image_folder.py"


@pytest.fixture(scope="module")
def checkpoint():
    return release.checkpoint(release.variables(*SMALL), 790_000)


@pytest.fixture(scope="module")
def imported(checkpoint, tmp_path_factory):
    """A run of those weights."""
    source = source_of(checkpoint)
    run = run_of(source, tmp_path_factory.mktemp("imported") / "run")
    importing.import_weights(run, source)
    return run


def copy_of(run, folder):
    shutil.copytree(run.directory, folder)
    return run._replace(
        directory=epath.Path(folder), checkpoints=epath.Path(folder / "checkpoints")
    )


def test_weights_ema_and_moments_go_where_they_belong(imported, checkpoint):
    run = imported
    step, found, _ = state.read_newest(run)
    name = "model/up_1/block_2/nin_shortcut/W"
    assert step == 790_000 == found.step

    def at(tree):
        return np.asarray(tree["up_1"]["block_2"]["nin_shortcut"]["kernel"])

    assert np.array_equal(at(found.params), checkpoint[name])
    for field, slot in (("ema", "ExponentialMovingAverage"), ("mu", "Adam"), ("nu", "Adam_1")):
        assert np.array_equal(
            at(optax.tree.get(found.opt_state, field)), checkpoint[f"{name}/{slot}"]
        )
    counts = [value for _, value in optax.tree.get_all_with_path(found.opt_state, "count")]
    assert counts and all(int(value) == 790_000 for value in counts)


def test_one_set_of_weights_is_the_ema_too_and_the_optimiser_begins_anew(checkpoint, tmp_path):
    raw = {
        name: array
        for name, array in checkpoint.items()
        if name.count("/") and not re.search("Exp|Adam", name)
    }
    source = source_of(release.by_pesser(raw), "pesser", 790_000)
    run = run_of(source, tmp_path)
    importing.import_weights(run, source)
    _, found, _ = state.read_newest(run)
    same = jax.tree.map(np.array_equal, found.params, optax.tree.get(found.opt_state, "ema"))
    assert jax.tree.all(same) and int(found.step) == 790_000
    assert np.array_equal(found.params["conv_in"]["kernel"], checkpoint["model/conv_in/W"])
    rest = [optax.tree.get(found.opt_state, field) for field in ("mu", "nu")]
    counts = [value for _, value in optax.tree.get_all_with_path(found.opt_state, "count")]
    assert not any(np.any(leaf) for leaf in jax.tree.leaves([rest, counts]))


def test_a_run_of_ours_by_their_names_is_the_same_run(loud_run, tmp_path):
    """Handed over under TensorFlow's names with every slot another, it is read back bit for bit."""
    ours = loud_run()
    made = loud.train_state(ours)
    mu, nu = (loud.weights(made.params, draw) for draw in (3, 4))
    made = made._replace(opt_state=optax.tree.set(made.opt_state, mu=mu, nu=nu))
    slots = {"": made.params, importing.EMA: optax.tree.get(made.opt_state, "ema")}
    slots |= {
        suffix: optax.tree.get(made.opt_state, name) for name, suffix in importing.MOMENTS.items()
    }
    tensors = {
        name + suffix: array
        for suffix, params in slots.items()
        for name, array in formats.to_tensors("tf1", jax.device_get(params)).items()
    }
    tensors["global_step"] = np.int64(loud.STEP)
    source = Source(epath.Path("x"), "tf1", tensors, None, ours.model.shape, {}, ())
    theirs = ours._replace(directory=epath.Path(tmp_path / "theirs"))
    theirs = theirs._replace(checkpoints=theirs.directory / "checkpoints")
    importing.import_weights(theirs, source)
    step, found, _ = state.read_newest(theirs)
    assert step == loud.STEP
    assert jax.tree.all(
        jax.tree.map(np.array_equal, made._replace(window=None), found._replace(window=None))
    )


@pytest.mark.parametrize("format", formats.FORMATS)
def test_out_and_in_again_is_the_identity(format, checkpoint, tmp_path):
    like = state.abstract(run_of(source_of(checkpoint), tmp_path)).params
    params = formats.to_params("tf1", checkpoint, like)
    again = formats.to_params(format, formats.to_tensors(format, params), like)
    assert jax.tree.all(jax.tree.map(np.array_equal, params, again))


def without(tensors, name):
    return {key: tensors[key] for key in tensors if key != name}


KERNEL = "model/mid/attn_1/q/W"


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda t: without(t, KERNEL), f"it has no tensor {KERNEL}; 1 of "),
        (lambda t: without(t, f"{KERNEL}/ExponentialMovingAverage"), f"no tensor {KERNEL}/Exp"),
        (lambda t: without(t, f"{KERNEL}/Adam_1"), f"no tensor {KERNEL}/Adam_1"),
        (lambda t: t | {"model/extra/W": np.ones(3)}, "its tensor model/extra/W has no place"),
        (lambda t: t | {"y": np.ones(3)}, "its tensor y has no place"),
        (
            lambda t: t | {KERNEL: t[KERNEL][:, :-1]},
            rf"its tensor {KERNEL} has shape \(64, 63\), not \(64, 64\)",
        ),
        (
            lambda t: t | {KERNEL: t[KERNEL] / 0},
            f"its tensor {KERNEL} has values that are not finite",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_a_tensor_that_is_missing_extra_or_misshapen_is_named(spoil, words, checkpoint, tmp_path):
    source = source_of(spoil(checkpoint))
    with pytest.raises(ValueError, match=words):
        importing.check_import(run_of(source, tmp_path), source)
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def exported(imported, tmp_path_factory):
    """A folder for diffusers, of a small network."""
    folder = tmp_path_factory.mktemp("exported") / "small"
    exporting.export(imported, str(folder), "diffusers")
    return folder


def test_what_is_exported_is_imported_again(exported, checkpoint, tmp_path):
    source = weights_source.read(str(exported), "auto")
    run = run_of(source, tmp_path)
    assert (run.model.shape, run.model.network.multipliers) == ((32, 32, 3), (1, 2))
    importing.import_weights(run, source)
    _, params = state.read_ema(run)
    name = "model/conv_in/W/ExponentialMovingAverage"
    assert np.array_equal(params["conv_in"]["kernel"], checkpoint[name])


def test_a_folder_of_diffusers_is_opened_without_a_run_of_its_own(exported, checkpoint):
    before = sorted(exported.rglob("*"))
    trained = ddpm_jax.load(exported)
    name = "model/conv_in/W/ExponentialMovingAverage"
    assert np.array_equal(trained.params["conv_in"]["kernel"], checkpoint[name])
    assert trained.run.model.shape == (32, 32, 3) and trained.schedule.T == 1000
    assert trained.x_T(2).shape == (2, 32, 32, 3)
    assert sorted(exported.rglob("*")) == before
    with pytest.raises(ValueError, match="foreign weights, which have no step"):
        ddpm_jax.load(exported, step=4)


@pytest.mark.slow
def test_samples_of_a_folder_of_diffusers_are_those_of_the_run_that_is_made_of_it(
    exported, tmp_path
):
    """Two compilations of a real network; that the weights are the same is shown above, cheaply."""
    source = weights_source.read(str(exported), "auto")
    importing.import_weights(run_of(source, tmp_path), source)
    settings = {"solver": "ddim", "steps": 3}
    one, other = (
        ddpm_jax.load(path).sample(2, seed=1, **settings) for path in (exported, tmp_path)
    )
    assert (one != other).mean() < 0.001 and one.std() > 20


def test_raw_weights_go_out_when_asked_for(imported, checkpoint, tmp_path):
    exporting.export(imported._replace(weights="raw"), str(tmp_path / "raw"), "diffusers")
    found = load_file(tmp_path / "raw" / "unet" / tensor_files.WEIGHTS[0])
    assert np.array_equal(found["conv_in.bias"], checkpoint["model/conv_in/b"])


def copied(folder, target):
    shutil.copytree(folder, target)
    return target


def said(name, **changed):
    def spoil(folder):
        path = folder / name
        fields = json.loads(path.read_text()) | changed
        path.write_text(json.dumps({k: v for k, v in fields.items() if v != "left out"}))

    return spoil


def of_network(**changed):
    return said("unet/config.json", **changed)


def of_scheduler(**changed):
    return said("scheduler/scheduler_config.json", **changed)


def written(content, name="unet/diffusion_pytorch_model.safetensors"):
    return lambda folder: (folder / name).write_bytes(content)


def cut(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def tensors(**shapes):
    def spoil(folder):
        path = folder / "unet" / "diffusion_pytorch_model.safetensors"
        save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, path)

    return spoil


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
SPOILED = {
    "a latent model": (
        said("model_index.json", _class_name="LDMPipeline", vqvae=[]),
        "a latent model",
    ),
    "Stable Diffusion": (
        said("model_index.json", _class_name="StableDiffusionPipeline", vae=[]),
        "StableDiffusionPipeline, a latent model",
    ),
    "a text-conditional network": (
        of_network(_class_name="UNet2DConditionModel"),
        "UNet2DConditionModel, not a UNet2DModel",
    ),
    "class-conditional": (of_network(num_class_embeds=10), "class-conditional"),
    "another embedding": (
        of_network(flip_sin_to_cos="left out"),
        "True, diffusers' default; it must be",
    ),
    "another padding": (of_network(downsample_padding=1), "downsample_padding 1; it must be 0"),
    "heads": (of_network(attention_head_dim=8), "heads of 8 channels (attention_head_dim)"),
    "groups": (of_network(norm_num_groups=16), "into 16 groups; there must be 32"),
    "other blocks": (of_network(down_block_types=["SkipDownBlock2D"] * 2), "SkipDownBlock2D"),
    "no size": (of_network(sample_size=None), "does not say the images' size"),
    "widths of another type": (
        of_network(block_out_channels="x"),
        "its block_out_channels is 'x'; it must be a list of integers",
    ),
    "a word for a rate": (of_network(dropout="x"), "dropout 'x'; it must be a number"),
    "no rate": (of_network(dropout=None), "dropout None; it must be a number"),
    "three sizes": (of_network(sample_size=[32, 32, 3]), "sample_size [32, 32, 3]; it must be one"),
    "a broken size": (of_network(sample_size=32.5), "sample_size 32.5; it must be one size"),
    "no size at all": (of_network(sample_size=[]), "sample_size []; it must be one size"),
    "a size of nought": (of_network(sample_size=0), "sample_size 0; it must be one size"),
    "other channels than its tensors": (
        of_network(in_channels=1),
        "in_channels 1, but its tensors 3",
    ),
    "other widths than its tensors": (
        of_network(block_out_channels=[32, 96]),
        "block_out_channels [32, 96], but its tensors [32, 64]",
    ),
    "more blocks than its tensors": (of_network(layers_per_block=3), "but its tensors 2"),
    "attention elsewhere than its tensors": (
        of_network(down_block_types=["DownBlock2D"] * 2, up_block_types=["UpBlock2D"] * 2),
        "attention at levels [], but its tensors at [1]",
    ),
    "another kind of schedule": (
        of_scheduler(_class_name="FlowMatchEulerDiscreteScheduler"),
        "FlowMatchEulerDiscreteScheduler",
    ),
    "a chain without a length": (
        of_scheduler(num_train_timesteps=None),
        "num_train_timesteps None; it must be of type int",
    ),
    "a cosine schedule": (of_scheduler(beta_schedule="squaredcos_cap_v2"), "squaredcos_cap_v2"),
    "v": (of_scheduler(prediction_type="v_prediction"), "v_prediction"),
    "an interpolated variance": (of_scheduler(variance_type="learned_range"), "learned_range"),
    "torn JSON": (written(b"{", "unet/config.json"), "config.json is not valid JSON"),
    "no object": (written(b"[]", "unet/config.json"), "is not a JSON object"),
    "a pointer": (written(POINTER), "is a Git LFS pointer"),
    "a pointer for JSON": (written(POINTER, "unet/config.json"), "is a Git LFS pointer"),
    "an empty file": (written(b""), "is empty"),
    "a web page": (written(b"<!DOCTYPE html>"), "is a web page"),
    "no safetensors": (written(b"\xff" * 100), "truncated, or not safetensors"),
    "cut off": (cut, "truncated, or not safetensors"),
    "OpenAI's": (tensors(**{"input_blocks.0.0.weight": (1,)}), "OpenAI's network"),
    "class-conditional by its tensors": (
        tensors(**{"class_embedding.weight": (1,)}),
        "class-conditional",
    ),
    "CompVis's": (
        tensors(**{"model.diffusion_model.out.0.bias": (1,)}),
        "a latent diffusion model",
    ),
    "nothing known": (
        tensors(**{"a": (1,), "b": (2,)}),
        "its tensors (a, b, ...) belong to no known format; only",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_what_cannot_be_imported_is_told_in_one_line(name, exported, tmp_path):
    spoil, words = SPOILED[name]
    folder = copied(exported, tmp_path / "model")
    spoil(folder)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(ValueError) as caught:
        command_line.parse(
            ["main", "--mode=import", f"--source={folder}", f"--workdir={tmp_path}/run"]
        )
    assert str(caught.value).startswith(f"--source {folder} cannot be imported: ")
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def shards(folder, index="diffusion_pytorch_model.safetensors.index.json"):
    """Splits a folder's weights into two files and their index."""
    path = folder / "unet" / tensor_files.WEIGHTS[0]
    everything, places = load_file(path), {}
    for i in (1, 2):
        name = f"diffusion_pytorch_model-0000{i}-of-00002.safetensors"
        part = dict(sorted(everything.items())[i - 1 :: 2])
        save_file(part, path.with_name(name))
        places |= dict.fromkeys(part, name)
    path.unlink()
    path.with_name(index).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def renamed(name):
    def rename(folder):
        (folder / "unet" / tensor_files.WEIGHTS[0]).rename(folder / "unet" / name)

    return rename


FILES = {
    "a variant": renamed("diffusion_pytorch_model.fp16.safetensors"),
    "shards": shards,
    "shards of a variant": lambda folder: shards(
        folder, "diffusion_pytorch_model.safetensors.index.fp16.json"
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_variants_and_shards_are_the_same_weights(name, exported, tmp_path):
    folder = copied(exported, tmp_path / "[model]")
    FILES[name](folder)
    whole, found = (weights_source.read(str(path), "auto") for path in (exported, folder))
    assert found.tensors.keys() == whole.tensors.keys()
    assert all(np.array_equal(found.tensors[key], whole.tensors[key]) for key in whole.tensors)
    assert any("its weights are those of diffusion_pytorch_model." in note for note in found.notes)


def test_shards_are_read_by_their_index_as_the_source(exported, tmp_path):
    folder = copied(exported, tmp_path / "model")
    shards(folder)
    index = folder / "unet" / f"{tensor_files.WEIGHTS[0]}.index.json"
    assert weights_source.read(str(index), "diffusers").shape == (32, 32, 3)
    (one, _) = sorted(index.parent.glob("*-of-*"))
    with pytest.raises(ValueError, match="it is one shard of several; name the folder"):
        weights_source.read(str(one), "auto")


def test_sixteen_bits_are_read_as_what_they_say(exported, tmp_path):
    folder = copied(exported, tmp_path / "model")
    path = folder / "unet" / tensor_files.WEIGHTS[0]
    halves = {name: array.astype(np.float16) for name, array in load_file(path).items()}
    save_file(halves, path.with_name("diffusion_pytorch_model.fp16.safetensors"))
    path.unlink()
    found = weights_source.read(str(folder), "auto").tensors
    assert all(np.array_equal(found[name], halves[name]) for name in halves)


def without_a_shard(folder):
    shards(folder)
    (folder / "unet" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()


def without_the_index(folder):
    shards(folder, "elsewhere.json")


def with_a_shard_of_fewer(folder):
    shards(folder)
    save_file(
        {"conv_in.bias": np.zeros(32, np.float32)},
        folder / "unet" / "diffusion_pytorch_model-00001-of-00002.safetensors",
    )


def two_variants(folder):
    path = folder / "unet" / tensor_files.WEIGHTS[0]
    for name in ("bf16", "fp16"):
        shutil.copy(path, path.with_name(f"diffusion_pytorch_model.{name}.safetensors"))
    path.unlink()


def an_index(content):
    def write(folder):
        shards(folder)
        path = folder / "unet" / f"{tensor_files.WEIGHTS[0]}.index.json"
        path.write_text(json.dumps(content))

    return write


FILES_SPOILED = {
    "a missing shard": (
        without_a_shard,
        "model-00002-of-00002.safetensors does not exist; 1 of 2 shards are missing",
    ),
    "no index": (without_the_index, "but no diffusion_pytorch_model.safetensors.index.json"),
    "a tensor that its shard lacks": (with_a_shard_of_fewer, "lacks the tensor "),
    "two variants": (two_variants, "has the variants diffusion_pytorch_model.bf16.safetensors, "),
    "an index of nothing": (an_index({}), "has no weight_map"),
    "an index of files elsewhere": (
        an_index({"weight_map": {"a": "../b.safetensors"}}),
        "not a file beside it",
    ),
    "no weights": (renamed("model.safetensors"), "has neither diffusion_pytorch_model.safet"),
}


@pytest.mark.parametrize("name", FILES_SPOILED)
def test_files_of_weights_that_cannot_be_read_are_named(name, exported, tmp_path):
    spoil, words = FILES_SPOILED[name]
    folder = copied(exported, tmp_path / "model")
    spoil(folder)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        weights_source.read(str(folder), "auto")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [32, [32], [32, 32]])
def test_one_size_is_a_square(size, exported, tmp_path):
    folder = copied(exported, tmp_path / "model")
    of_network(sample_size=size)(folder)
    assert weights_source.read(str(folder), "auto").shape == (32, 32, 3)


def test_weights_for_oblong_images_need_oblong_images(exported, tmp_path):
    """Pictures of a folder are squares, an array has the shape that it has."""
    folder = copied(exported, tmp_path / "model")
    of_network(sample_size=[32, 64])(folder)
    source = weights_source.read(str(folder), "auto")
    for size, fits in (((32, 64), True), ((32, 32), False), ((64, 32), False)):
        np.save(tmp_path / "images.npy", np.zeros((4, *size, 3), np.uint8))
        for data, images in (
            ({}, "32x32x3"),
            ({"path": f"{tmp_path}/images.npy"}, "x".join(map(str, size))),
        ):
            if data and fits:
                assert run_of(source, tmp_path / "run", data=data).model.shape == (32, 64, 3)
                continue
            with pytest.raises(ValueError, match=rf"images of 32x64x3 .* are {images}"):
                run_of(source, tmp_path / "run", data=data)
    with pytest.raises(ValueError, match=r"data.path .*none.npy does not exist"):
        run_of(source, tmp_path / "run", data={"path": f"{tmp_path}/none.npy"})
    with pytest.raises(ValueError, match=r"images of 32x32x3 .* are 64x64x3"):
        run_of(weights_source.read(str(exported), "auto"), tmp_path, data={"image_size": 64})


@pytest.mark.parametrize(
    "args, words",
    [
        ([], "needs --source=PATH"),
        (["--source=nowhere"], "nowhere does not exist"),
        (["--source={here}"], "neither a TensorFlow checkpoint nor a config.json"),
        (["--source={exported}", "--format=tf1"], "has format diffusers, not --format=tf1"),
        (
            ["--source={exported}/unet/diffusion_pytorch_model.safetensors", "--config=no.py"],
            "no.py does not exist",
        ),
        (["--source={exported}", "--config.model.widht=1"], "no field model.widht"),
        (["--source={exported}", f"--config={ROOT}/README.md"], "README.md: SyntaxError"),
        (["--source={exported}", f"--config={ROOT}/configs/digits.py:row"], "TypeError"),
    ],
)
def test_wrong_usage_of_import(args, words, exported, tmp_path):
    here = [arg.format(here=tmp_path, exported=exported) for arg in args]
    with pytest.raises(ValueError, match=words):
        command_line.parse(["main", "--mode=import", *here])


def test_libraries_that_read_it_are_named_where_they_are_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    (tmp_path / "model-790000.ckpt").write_bytes(b"PK\x03\x04")
    (tmp_path / "model.ckpt-3.index").write_bytes(b"\x00")
    for name, words in (
        ("model-790000.ckpt", "pip install torch"),
        ("model.ckpt-3", r"'\.\[prepare\]'"),
    ):
        with pytest.raises(ValueError, match=words):
            weights_source.read(str(tmp_path / name), "auto")


def test_a_run_is_not_imported_over(imported, exported):
    source = weights_source.read(str(exported), "auto")
    run = run_of(source, imported.directory)
    with pytest.raises(ValueError, match="already holds a run; import into another --workdir"):
        importing.check_import(run, source)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"diffusion": {"variance": "learned", "loss": "vlb"}}, "the logarithm of its variance"),
        (
            {"diffusion": {"output": "x_prev"}, "train": {"grid": {"steps": 1000}}},
            "output is x_prev",
        ),
        ({"model": {"channels": 24}}, "needs multiples of 32"),
    ],
)
def test_what_diffusers_cannot_be_is_not_exported(change, words, exported, tmp_path):
    source = weights_source.read(str(exported), "auto")
    run = run_of(source, tmp_path / "run", **change)
    with pytest.raises(ValueError, match=words):
        exporting.check_export(run, str(tmp_path / "out"), "diffusers")


def test_nothing_is_exported_over_what_is_there_nor_what_cannot_be(exported, tmp_path, monkeypatch):
    run = run_of(weights_source.read(str(exported), "auto"), tmp_path)
    (tmp_path / "there").mkdir()
    exporting.check_export(run, str(tmp_path / "there"), "diffusers")
    (tmp_path / "there" / "x").write_text("x")
    for target, words in ((tmp_path / "there", "already exists"), ("", "needs --target=PATH")):
        with pytest.raises(ValueError, match=words):
            exporting.check_export(run, str(target), "diffusers")
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="run in one process, not 2"):
        exporting.check_export(run, str(tmp_path / "new"), "png")


def test_schedules_of_any_kind_go_out(exported, tmp_path):
    """And in: a chain of 5 steps is sampled in 5."""
    run = run_of(weights_source.read(str(exported), "auto"), tmp_path)
    schedule = {"name": "constant", "T": 5, "beta_1": 0.1, "beta_T": 0.1}
    model = run.model._replace(sched=diffusion.constant(5, 0.1))
    said = diffusers.scheduler_config(model, run.config["diffusion"] | {"schedule": schedule})
    assert said["trained_betas"] == [0.1] * 5 and said["num_train_timesteps"] == 5
    of_labels = model._replace(network=model.network.clone(classes=10))
    of_range = model._replace(variance=parameterization.learned_range)
    for other, words in (
        (of_labels, "needs labels"),
        (of_range, "learned_range cannot be exported"),
    ):
        with pytest.raises(ValueError, match=words):
            diffusers.scheduler_config(other, run.config["diffusion"])

    folder = copied(exported, tmp_path / "short")
    of_scheduler(num_train_timesteps=5, beta_schedule="scaled_linear")(folder)
    short = run_of(weights_source.read(str(folder), "auto"), tmp_path)
    assert np.allclose(short.model.sched.beta, diffusion.quadratic(5, 1e-4, 0.02).beta)
    assert short.sample.chain.name == "ancestral-5"


@pytest.mark.slow
def test_the_python_of_the_page_runs(imported, tmp_path, monkeypatch):
    """It samples and calls a network at 32x32: two programs to compile."""
    copy = copy_of(imported, tmp_path / "runs" / "ddpm-cifar10-32").directory / "config.json"
    record = json.loads(copy.read_text())
    record["config"]["sample"].update(solver="ddim", steps=2)
    copy.write_text(json.dumps(record))
    page = (ROOT / "docs" / "weights.md").read_text()
    found: dict = {}
    monkeypatch.chdir(tmp_path)
    exec(re.search("```python\n(.*?)```", page, re.DOTALL)[1], found)
    assert found["images"].shape == (8, 32, 32, 3)
    assert found["predict"](found["images"], jnp.full(8, 3)).shape == (8, 32, 32, 3)


def test_every_function_in_the_page_s_table_exists():
    page = (ROOT / "docs" / "weights.md").read_text()
    ours = [row.split("|")[2] for row in page.splitlines() if row.startswith("| ")]
    names = re.findall(r"`((?:[a-z_]+\.)+[A-Za-z_]+)\(", " ".join(ours))
    assert len(names) >= 10
    for name in names:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(f"ddpm_jax.{module}"), function)), name


def test_import_converts_every_tensor_once(checkpoint, tmp_path, monkeypatch):
    """Its check reads shapes and values, and converts none."""
    converted = []
    convert = formats.to_our_layout
    monkeypatch.setattr(
        formats, "to_our_layout", lambda *args: converted.append(args[1]) or convert(*args)
    )
    source = source_of(checkpoint)
    run = run_of(source, tmp_path)
    importing.check_import(run, source)
    assert not converted
    importing.import_weights(run, source)
    assert len(converted) == len(checkpoint.keys() - set(importing.COUNTERS))


def test_a_command_reads_the_weights_once_and_the_next_command_reads_them_again(
    exported, tmp_path, monkeypatch
):
    """A file that has changed between two commands of one process is not taken for the old one."""
    folder = copied(exported, tmp_path / "model")
    reads = []
    read = tensor_files.read_tensors
    monkeypatch.setattr(tensor_files, "read_tensors", lambda path: reads.append(path) or read(path))
    args = ["main", "--mode=import", f"--source={folder}", f"--workdir={tmp_path}/run"]
    command = command_line.parse(args)
    program.build(command.config, command.directory, **command.options)
    assert len(reads) == 1
    cut(folder)
    with pytest.raises(ValueError, match="truncated, or"):
        command_line.parse(args)
