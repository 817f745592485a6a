"""Identities that figures must satisfy, on a tiny network; and the files of the program."""

import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import tiny_config
from etils import epath
from PIL import Image
from support.command import ddpm

from ddpm_jax import diffusion, sde
from ddpm_jax.cli import flag_table
from ddpm_jax.codec.commands import calibrate
from ddpm_jax.config import build, guide
from ddpm_jax.datasets import batches, pixels
from ddpm_jax.figures import (
    compression,
    guidance,
    latents,
    nearest,
    ode,
    program,
    rate_distortion,
    samples,
    solvers,
    trajectories,
)
from ddpm_jax.figures.trajectories import TrainedRun, Walk
from ddpm_jax.metrics import features
from ddpm_jax.run import sampling, state
from ddpm_jax.runtime import figure_files, images, plotting, signals
from ddpm_jax.training import train

IN_ALL = [name for name, entry in program.FIGURES.items() if entry.in_all]
NAMES = [name for name in IN_ALL if name != "rate_distortion"]


def run_of(digits, directory, **fields):
    config = tiny_config(digits)
    config.train.steps = 2
    config.update_from_flattened_dict(fields)
    return build.run(config, epath.Path(directory))


@pytest.fixture(scope="module")
def original(digits, tmp_path_factory):
    """Returns the folder of a run of two training steps."""
    folder = tmp_path_factory.mktemp("figures")
    train.train(run_of(digits, folder))
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """Returns this test's own copy of the run, so that no other test finds what it writes."""
    return shutil.copytree(original, tmp_path / "run")


@pytest.fixture(scope="module")
def weights(digits, original):
    return state.read_ema(run_of(digits, original))


@pytest.fixture
def trained(digits, folder, weights, tmp_path):
    """Returns a TrainedRun with some fields of its config changed."""

    def make(**fields):
        run = run_of(digits, folder, **fields)
        loop = sampling.make_program(run.model, run.sample.chain)
        return TrainedRun(run, *weights, loop, epath.Path(tmp_path) / "kept")

    return make


def draw_samples(trained, numbers):
    """Draws the samples of these numbers as --mode=sample does."""
    keys = sampling.image_keys(trained.run, trained.run.sample.seed, np.asarray(numbers))
    return np.asarray(trained.program(trained.params, keys))


def run_to_end(trained, label, *walks):
    return [seen[-1] for seen in trajectories.run_walks(trained, label, walks)]


def close(one, other):
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("solver", [pytest.param("ancestral", marks=pytest.mark.slow), "ddim"])
def test_a_walk_stopped_at_x_t_and_begun_again_there_is_the_ordinary_sample(trained, solver):
    it = trained(**{"sample.solver": solver, "sample.eta": 0.5 * (solver == "ddim")})
    numbers = np.arange(5, 16)  # 11: two batches of 8, the second filled up
    whole = np.concatenate([draw_samples(it, numbers[:8]), draw_samples(it, numbers[-8:])[-3:]])
    (seen,) = trajectories.run_walks(it, "there", [Walk((0, 3, 8), numbers)])
    assert seen.shape == (3, 11, 8, 8, 1)
    close(seen[-1], whole)
    for label, place, x_t in (("from x_T", 0, seen[0]), ("from x_5", 3, seen[1])):
        (again,) = run_to_end(it, label, Walk((place, 8), numbers, x_t))
        close(again, whole)


def test_images_that_share_a_number_share_their_noise(trained):
    x_t = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype(np.float32).repeat(3, axis=0)
    (images,) = run_to_end(trained(), "shared", Walk((2, 8), np.array([4, 4, 5]), x_t))
    close(images[0], images[1])
    assert np.abs(images[0] - images[2]).max() > 0.1


@pytest.mark.parametrize("output", ["eps", "x_0"])
def test_the_last_x_0_guess_is_the_sample(trained, output):
    """Also one step before the end of the path, as the last step draws no noise."""
    it = trained(**{"diffusion.output": output})
    (seen,) = trajectories.run_walks(
        it, "guess", [Walk((0, 7, 8), np.arange(8))], trajectories.observe_x_0
    )
    close(seen[2], draw_samples(it, np.arange(8)))
    close(seen[1], seen[2])
    assert np.abs(seen[0]).max() <= 1.0
    if output == "eps":  # an untrained network's x_0-hat hardly depends on x_t
        assert np.abs(seen[0] - seen[2]).max() > 0.1


def test_eight_devices_make_the_same_figure(trained):
    for name in ("progressive", "interpolation"):
        facts = [
            program.FIGURES[name].draw(trained(**{"parallel.devices": n})).facts for n in (1, 8)
        ]
        for key, value in facts[0].items():
            if key.startswith("rmse"):
                np.testing.assert_allclose(value, facts[1][key], rtol=1e-3, atol=1e-3)
            else:
                assert key == "psnr" or value == facts[1][key]


def test_progressive_closes_in_on_the_sample(trained):
    some = {"eval.quality.samples": 20, "eval.quality.space": "pixels", "sample.count": 20}
    it = trained(**some)
    drawn = samples.progressive(it)
    assert drawn.facts["times"] == [8, 7, 6, 5, 4, 3, 2, 1, 0] and drawn.facts["images"] == 20
    assert drawn.facts["rmse"][-1] == 0.0 and drawn.facts["psnr"][-1] is None
    distance = samples.frechet_distance(it).measure
    final = distance(samples.first_samples(it, 20))
    assert drawn.facts["frechet_pixels"][-1] == pytest.approx(final, rel=1e-3)
    source = batches.load(it.run.data.open("train"))
    assert abs(distance(pixels.stretch(source.records, source.levels))) < 1e-6
    one = drawn.facts["rmse"][0], drawn.facts["psnr"][0]
    assert one[1] >= 20 * np.log10(255 / one[0])  # Jensen: the mean of logs, the log of the mean
    assert len(drawn.pages["-quality"].axes) == 3


def test_progressive_scores_as_many_images_as_an_evaluation_and_says_how_many(trained, monkeypatch):
    """In groups of two batches; the final x_0-hats are the samples, and so are their scores."""
    fields = {"eval.quality.samples": 20, "eval.quality.space": "classifier", "sample.count": 20}
    it = trained(**fields)
    monkeypatch.setattr(samples, "GROUP_VALUES", 2 * 8 * 9 * 64)
    drawn = samples.progressive(it)
    made = samples.first_samples(it, 20)
    logits = samples.frechet_distance(it).space.features(made).logits
    mean, std = samples.inception_score.inception_score(logits)
    assert drawn.facts["images"] == 20
    assert len(drawn.facts["is_classifier"]) == len(drawn.facts["times"]) == 9
    assert drawn.facts["is_classifier"][-1] == pytest.approx(mean, rel=1e-3)
    assert drawn.facts["is_classifier_std"][-1] == pytest.approx(std, rel=1e-2, abs=1e-3)
    labels = [axes.get_ylabel() for axes in drawn.pages["-quality"].axes]
    assert labels[2:] == ["Fréchet distance\n(20 images)", "Inception Score\n(20 images)"]
    assert len(list((it.kept).glob("progressive-*"))) == 2
    more = trained(**fields | {"eval.quality.samples": 50_000})
    assert samples.quality_images(more, 21) == 50_000  # the limit is memory
    large = more.run._replace(model=more.run.model._replace(shape=(256, 256, 3)))
    assert samples.quality_images(more._replace(run=large), 21) == 1040


def test_the_ends_of_an_interpolation_are_reconstructions_of_its_sources(trained):
    """lambda = 0 and 1 give each source's own x_t, decoded with the pair's noise."""
    it = trained()
    _, x_0 = trajectories.real_images(it, "test", 4)
    (x_t,) = trajectories.diffuse(it, x_0, [4])
    place = it.program.index_at(4)
    (images,) = run_to_end(it, "mixtures", latents.decoding_walk(it, x_t, place))
    pairs = images.reshape(2, 11, 8, 8, 1)
    (alone,) = run_to_end(it, "alone", Walk((place, 8), np.array([0, 0, 2, 2]), x_t))
    close(pairs[:, [0, -1]].reshape(4, 8, 8, 1), alone)
    assert np.abs(pairs[:, 0] - pairs[:, -1]).max() > 0.1


def test_at_depth_0_the_sources_themselves_are_mixed(trained):
    it = trained()
    _, x_0 = trajectories.real_images(it, "test", 2)
    (x_t,) = trajectories.diffuse(it, x_0, [0])
    np.testing.assert_array_equal(x_t, x_0)
    (images,) = run_to_end(it, "pixels", latents.decoding_walk(it, x_t, 8))
    np.testing.assert_array_equal(images[[0, -1]], x_0)
    close(images[3], 0.7 * x_0[0] + 0.3 * x_0[1])
    assert latents.coarse_to_fine(it).facts["rmse_of_reconstructions"][-1] == [0.0, 0.0]


def test_diffused_ends_have_noise_of_their_own_that_all_depths_share(trained):
    it = trained()
    sched, x_0 = it.run.model.sched, np.zeros((2, 8, 8, 1), np.float32)
    shallow, deep = trajectories.diffuse(it, x_0, [2, 7])
    close(shallow / np.sqrt(1 - sched.alpha_bar[2]), deep / np.sqrt(1 - sched.alpha_bar[7]))
    assert abs(np.corrcoef(deep[0].ravel(), deep[1].ravel())[0, 1]) < 0.5


def test_without_noise_what_shares_x_t_is_one_image(trained):
    drawn = latents.shared_latents(trained(**{"sample.solver": "ddim"}))
    assert drawn.facts["depths"][0] == 8 and np.diff(drawn.facts["depths"]).max() <= 0
    np.testing.assert_allclose(drawn.facts["rmse_between_continuations"], 0.0, atol=1e-3)


def test_what_shares_a_later_x_t_has_more_in_common(trained):
    apart = latents.shared_latents(trained()).facts["rmse_between_continuations"]
    assert apart[0] > apart[-1] > 0.0


@pytest.mark.parametrize("height", [32, 256])
def test_the_paper_s_depths_are_the_paper_s_times(height):
    """Fig. 8's t = 500 among them, by the paper's own schedule and sampler, at all its sizes."""
    found = depths(diffusion.linear(1000, 1e-4, 0.02), height, latents.ROWS)
    assert found == list(latents.ROWS) and latents.INTERPOLATED in latents.ROWS


@pytest.mark.parametrize(
    "sched", [diffusion.cosine(1000), diffusion.linear(100, 1e-3, 0.2), sde.ve(500, 0.01, 50.0)]
)
def test_other_schedules_are_as_deep_as_the_paper_s_where_as_much_of_an_image_is_left(sched):
    signal = np.sqrt(sched.alpha_bar)
    paper = np.sqrt(latents.PAPER.alpha_bar)
    assert round(paper[500], 4) == 0.2803
    for t in (875, 500, 250):
        (found,) = depths(sched, 32, [t])
        assert min(signal[found - 1 : found + 2] - paper[t], key=abs) == signal[found] - paper[t]
    assert depths(sched, 32, [1000, 0]) == [len(signal) - 1, 0]


def test_an_image_of_a_few_pixels_keeps_the_ratio_that_blocks_of_a_larger_one_have():
    """The mean of 4x4 pixels has a sixteenth of their noise's variance: 8x8 against 32x32."""
    sched = diffusion.linear(1000, 1e-4, 0.02)
    (small,), (large,) = depths(sched, 8, [500]), depths(sched, 32, [500])
    ratio = sched.alpha_bar / (1.0 - np.minimum(sched.alpha_bar, 1.0 - 1e-12))
    assert ratio[small] == pytest.approx(16 * ratio[large], rel=0.01)


def depths(sched, height, times):
    model = SimpleNamespace(sched=sched, shape=(height, height, 3))
    program = SimpleNamespace(times=np.arange(len(sched.alpha_bar))[::-1])
    it = TrainedRun(SimpleNamespace(model=model), 1, None, program, None)
    return [int(program.times[latents.find_place(it, t)]) for t in times]


def test_depths_are_times_that_the_sampler_visits(trained):
    it = trained(**{"sample.solver": "ddim", "sample.steps": 4})
    found = latents.coarse_to_fine(it).facts["depths"]
    assert found[0] == 8 and found[-1] == 0 and set(found) <= {8, 6, 4, 2, 0}
    assert found == sorted(found, reverse=True) and len(found) == 9


@pytest.mark.parametrize("together", [nearest.CHUNK_VALUES, 64 * 100])
def test_a_training_image_is_nearest_to_itself(trained, monkeypatch, together):
    monkeypatch.setattr(nearest, "CHUNK_VALUES", together)
    monkeypatch.setattr(nearest, "PART", 700)
    it = trained()
    source = it.run.data.open("train")
    everything = pixels.stretch(source.read(np.arange(source.count)), 17)
    chosen = np.array([0, 99, 100, 1436])
    for view in (nearest.WHOLE, nearest.CENTRE):
        found = nearest.search(it, source, everything[chosen], features.pixels(), view, 4)
        np.testing.assert_allclose(found.distances[:, 0], 0.0, atol=1e-9)
        flat = view.crop(everything).reshape(source.count, -1) / 255.0
        np.testing.assert_allclose(flat[found.places[:, 0]], flat[chosen])
        brute = np.sort(((flat[chosen][:, None] - flat) ** 2).sum(-1), axis=1)[:, :4]
        np.testing.assert_allclose(found.distances, brute, atol=1e-5)


def test_the_centre_is_the_paper_s_fraction_of_each_side():
    picture = np.arange(8 * 13, dtype=np.uint8).reshape(1, 8, 13, 1)
    np.testing.assert_array_equal(nearest.centre(picture), picture[:, 2:5, 4:9])
    cut = nearest.gray_surround(picture)
    np.testing.assert_array_equal(nearest.centre(cut), nearest.centre(picture))
    assert (cut == nearest.GRAY).sum() == 8 * 13 - 3 * 5
    faces = [(side.start, side.stop) for side in nearest.centre_slices(256, 256)]
    assert faces == [(78, 178)] * 2  # Fig. 12: 100 of 256 pixels
    assert nearest.centre(np.zeros((1, 1, 2, 3), np.uint8)).shape == (1, 1, 1, 3)


def test_crops_are_compared_in_spaces_that_take_any_size(trained, monkeypatch):
    """A stand-in for Inception sees both views; the small classifier has whole images only."""
    seen = []

    def average(images):
        seen.append(images.shape[1:3])
        return features.Features(images.mean(axis=(1, 2)).astype(np.float32))

    stand_in = features.Space("inception", {}, average)
    monkeypatch.setattr(nearest.spaces, "available", lambda run: stand_in)
    drawn = nearest.nearest(trained())
    assert set(seen) == {(8, 8), (3, 3)}
    assert {"whole", "centre"} <= drawn.facts["inception"].keys()
    assert drawn.facts["inception"]["centre"] != drawn.facts["pixels"]["centre"]
    classifier = stand_in._replace(name="classifier")
    assert nearest.views(classifier) == (nearest.WHOLE,)


def terms_of(T, steps, bits):
    """Returns made-up terms of 'steps' strata: 'bits' bits for each step, one for the decoder."""
    runs = np.array_split(np.arange(2, T + 1), steps - 1)
    return {
        "first": [1, *(int(run[0]) for run in runs)],
        "size": [1, *(len(run) for run in runs)],
        "bits_per_dim": [1.0, *(bits * len(run) for run in runs)],
        "rmse": np.linspace(1.0, 60.0, steps).tolist(),
    }


def test_the_rate_is_what_is_sent_before_x_t(T=10):
    terms = terms_of(T, T, 0.0) | {"bits_per_dim": np.arange(1.0, T + 1).tolist()}
    curve = rate_distortion.curve(terms, 0.5, T)
    assert curve["rate"][-1] == 0.5 and curve["reverse_step"][-1] == 1.0  # x_T: the prior alone
    assert curve["rate"][0] == 0.5 + sum(range(2, T + 1)) and curve["reverse_step"][0] == T
    assert curve["rmse"][0] == 1.0


@pytest.mark.parametrize("steps", [2, 3, 7, 50])
def test_strata_lie_on_the_curve_of_all_steps(steps, T=100):
    curve = rate_distortion.curve(terms_of(T, steps, 0.25), 0.5, T)
    for t, value in zip(curve["t"], curve["rate"], strict=True):
        assert value == pytest.approx(0.5 + 0.25 * (T - t))


def test_table_4_is_drawn_beside_cifar10_s_own_curve_only(trained, tmp_path):
    it = trained()
    (tmp_path / "eval").mkdir()
    record = {"terms": terms_of(1000, 1000, 0.001), "prior": 1e-5, "bits_per_dim": 2.0}
    (tmp_path / "eval" / "2-likelihood-test.json").write_text(json.dumps(record))
    model = it.run.model._replace(sched=diffusion.linear(1000, 1e-4, 0.02))
    run = it.run._replace(directory=epath.Path(tmp_path), model=model)
    for name, lines in (("cifar10", 2), ("digits", 1)):
        drawn = rate_distortion.rate_distortion(
            it._replace(run=run._replace(data=run.data._replace(name=name)))
        )
        assert [len(axes.lines) for axes in drawn.pages[""].axes] == [lines] * 3
        table = drawn.facts["paper_table_4_cifar10"]
        assert table["drawn"] == (lines == 2) and table["rate"][0] == 1.77581
        assert drawn.facts["rate_bits_per_dim"] == pytest.approx(0.999 + 1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (5, 9, 3), (300, 40, 3), (6, 4, 2)])
def test_every_image_of_a_sheet_is_enlarged_by_whole_pixels(shape, tmp_path):
    cells = np.random.default_rng(0).integers(0, 256, (2, 3, *shape), dtype=np.uint8)
    raster, _, _ = plotting.tile(cells, (1,))
    sheet = plotting.sheet(cells, ["one", "two"], [plotting.Header(1, 2, "$x_t$")], (1,))
    figure_files.save(epath.Path(tmp_path) / "sheet", sheet)
    png = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    np.testing.assert_array_equal(png[-raster.shape[0] :, -raster.shape[1] :], raster)
    assert png.shape[0] > raster.shape[0] and png.shape[1] > raster.shape[1]
    scale = -(-plotting.SHARP // max(shape[:2]))
    first = raster[: shape[0] * scale : scale, : shape[1] * scale : scale]
    np.testing.assert_array_equal(first, plotting.rgb(cells)[0, 0])
    assert (tmp_path / "sheet.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("text", ["100 steps", "$t = 1000$", "$w = 0.5$", "quadratic, 1000", "i"])
def test_text_beside_rows_keeps_clear_of_the_edge_and_of_the_images(text, tmp_path):
    cells = np.zeros((2, 3, 8, 8, 1), np.uint8)
    figure_files.save(epath.Path(tmp_path) / "sheet", plotting.sheet(cells, [text, ""], []))
    png = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    beside = png[-200:-104, : -3 * 100 + 4]  # left of the first row
    (inked,) = np.nonzero((beside < 200).any(axis=0))
    assert inked[0] >= 4 and inked[-1] < beside.shape[1] - 4, (inked[0], inked[-1])


def contents(folder):
    return {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}


@pytest.mark.slow
def test_all_figures_are_files_and_the_same_files_again(digits, folder, capsys):
    """Compiles a program for each of all figures."""
    run = run_of(digits, folder)
    program.figures(run, ["all"])
    assert (
        "ddpm evaluate" in capsys.readouterr().out
    )  # the message of rate_distortion, which is left out
    first = contents(folder)
    whole = {f"2-{name}" for name in (*NAMES, "progressive-quality", "forward-schedule")}
    assert first.keys() == {f"{n}.{s}" for n in whole for s in ("png", "pdf")} | {
        f"2-{name}.json" for name in NAMES
    }
    for name in NAMES:
        record = json.loads(first[f"2-{name}.json"])
        assert (record["figure"], record["step"], record["weights"]) == (name, 2, "ema")
        assert (record["solver"], record["seed"]) == ("ancestral-8", 0)
    for name, content in first.items():
        if name.endswith(".png"):
            Image.open(io.BytesIO(content)).verify()
    for path in (folder / "figures").glob("2-[fgpin]*"):
        path.unlink()
    program.figures(run, ["forward", "grid", "progressive", "interpolation", "nearest"])
    assert contents(folder) == first
    other = run_of(digits, folder, **{"sample.seed": 1})
    program.figures(other, ["interpolation"])
    assert contents(folder)["2-interpolation.json"] != first["2-interpolation.json"]


def test_nearest_is_in_features_too_where_the_run_has_some(digits, folder):
    run = run_of(digits, folder, **{"eval.quality.samples": 8, "eval.quality.space": "classifier"})
    program.figures(run, ["nearest"])
    found = json.loads((folder / "figures" / "2-nearest.json").read_text())
    assert found["classifier"]["space"]["name"] == "classifier"
    assert found["pixels"]["whole"] != found["classifier"]["whole"]
    assert (folder / "figures" / "2-nearest-classifier.png").exists()


def test_the_grid_takes_samples_that_are_there(digits, folder, trained, monkeypatch):
    made = samples.first_samples(trained(), 64)
    assert len(made) == 8  # sample.count
    monkeypatch.setattr(samples.sampling, "write_samples", None)
    np.testing.assert_array_equal(samples.first_samples(trained(), 5), made[:5])
    np.testing.assert_array_equal(
        made, pixels.quantize(draw_samples(trained(), np.arange(8)), trained().run.model.levels)
    )


def test_rows_of_a_grid_are_named_after_their_class(loud_run):
    run = loud_run("conditional")
    names = [f"{name}" for name in range(10)]
    assert samples.class_names(run, images.layout(20, 10), 10) == names
    twice = images.layout(250, 10)
    assert samples.class_names(run, twice, 10) == [x for name in names for x in (name, "")]
    assert samples.class_names(run, images.layout(10, 10), 10) == []  # classes in one row
    assert samples.class_names(run, images.layout(20), 0) == []


def test_a_stopped_call_goes_on_where_it_was(trained, monkeypatch):
    it = trained()
    walks = [Walk((0, 8), np.arange(24))]
    whole = trajectories.run_walks(it._replace(kept=it.kept / "whole"), "walk", walks)
    taken = []

    def advance(*args):
        taken.append(args[3:])
        if len(taken) == 2:
            monkeypatch.setattr(signals, "pending", ["SIGTERM"])
        return it.program.advance(*args)

    counting = it._replace(program=it.program._replace(advance=advance))
    with pytest.raises(signals.Stopped, match="in walk|batches done"):
        trajectories.run_walks(counting, "walk", walks)
    monkeypatch.setattr(signals, "pending", [])
    np.testing.assert_array_equal(trajectories.run_walks(counting, "walk", walks), whole)
    assert taken == [(0, 8)] * 3  # each of three batches once


@pytest.mark.parametrize(
    "names, hint",
    [
        ("gird", "did you mean grid?"),
        ("grid,interpolate", "did you mean interpolation?"),
        ("zzz", "choose from all, coarse_to_fine, .*grid"),
        ("", "--figures is empty"),
        ("rate_distortion", "ddpm evaluate"),
    ],
)
def test_figures_that_cannot_be_are_refused_before_anything_is_drawn(digits, folder, names, hint):
    run = run_of(digits, folder)
    with pytest.raises(ValueError, match="(?s)" + hint.replace("?", r"\?")):
        program.check(run, [name for name in names.split(",") if name])


def test_figures_come_in_one_order_each_once():
    assert program.select(["nearest", "grid", "grid"]) == ["grid", "nearest"]
    of_all = program.select(["grid", "all"])
    assert of_all == IN_ALL
    others = program.FIGURES.keys() - set(IN_ALL)
    assert program.select(["all", *others]) == list(program.FIGURES)


def test_the_command_refuses_an_unknown_figure_with_2_and_help_knows_them_all(folder):
    status, _, err = ddpm(f"--workdir={folder}", "--mode=figures", "--figures=gird")
    assert status == 2 and err.strip().endswith("did you mean grid?"), err
    for name in program.FIGURES:
        assert name in flag_table.help_text()


@pytest.mark.slow
def test_guidance_draws_every_class_at_every_weight(digits, tmp_path, monkeypatch):
    """A trained conditional network at five weights, each compiled."""
    monkeypatch.setattr(guidance, "PER_CLASS", 2)
    fields = {"model.classes": 10, "train.label_dropout": 0.5}
    run = run_of(digits, tmp_path, **fields)
    train.train(run)
    program.figures(run, ["guidance"])
    record = json.loads((tmp_path / "figures" / "2-guidance.json").read_text())
    assert record["by_class"].keys() == {"0", "1", "2", "4"}
    assert record["classifier_right_on_held_out"] > 0.9
    assert np.mean(record["by_class"]["2"]) < 0.6  # a network of two steps knows no digits
    with pytest.raises(ValueError, match="configs/digits_conditional.py"):
        program.check(run_of(digits, tmp_path), ["guidance"])


@pytest.mark.slow
def test_guidance_is_drawn_of_a_classifier_s_too(trained, digits, tmp_path, monkeypatch):
    """Two networks, one of which is differentiated, at four weights."""
    monkeypatch.setattr(guidance, "PER_CLASS", 2)
    fields = {"diffusion.loss": "classification", "model.classes": 10}
    train.train(run_of(digits, tmp_path / "classifier", **fields))
    made = trained(**{"sample.classifier": str(tmp_path / "classifier")})
    run = guide.open_guide(made.run)
    guidance.check(run)
    drawn = guidance.guidance(made._replace(run=run))
    assert drawn.facts["weights_of_guidance"] == [0.0, 1.0, 2.0, 4.0]
    assert len(drawn.facts["by_class"]["4"]) == 10


@pytest.mark.slow
def test_guided_walks_share_their_noise_and_keep_their_classes(digits, tmp_path):
    """w = 0 gives the samples that --mode=sample draws without guidance."""
    run = run_of(digits, tmp_path, **{"model.classes": 10, "train.label_dropout": 0.5})
    train.train(run)
    weights = state.read_ema(run)
    it = TrainedRun(
        run,
        *weights,
        sampling.make_program(run.model, run.sample.chain),
        epath.Path(tmp_path) / "k",
    )
    keys = sampling.image_keys(run, 0, np.arange(8))
    given = sampling.program_inputs(run, it.params, run.sample.chain, np.arange(8))
    close(guidance.draw_samples(it, 0.0, 8), it.program(given, keys))


@pytest.mark.slow
def test_the_figure_of_the_ode_is_of_held_out_images_and_their_bound(trained, tmp_path):
    """The ODE there and back, and its divergence: minutes of compilation without these few steps."""
    made = trained(**{"eval.steps": 8})
    drawn = ode.ode(made)
    facts = drawn.facts
    assert set(drawn.pages) == {"", "-latents"} and facts["images"] == len(facts["indices"]) == 64
    assert facts["rmse_of_the_way_back"]["max"] < 1.0
    indices, x_0 = trajectories.real_images(made, "test", 64)
    assert indices == facts["indices"]
    assert facts["bound"]["bits_per_dim"] > 0.0
    found = facts["ode"]["as they are"]
    assert np.isfinite(found["bits_per_dim"]) and found["standard_error"] > 0.0


def test_the_figure_of_the_ode_is_refused_a_network_of_its_own_mean(digits, tmp_path):
    with pytest.raises(ValueError, match="--figures=ode needs the score"):
        program.check(run_of(digits, tmp_path, **{"diffusion.output": "x_prev"}), ["ode"])


@pytest.mark.slow
def test_the_figure_of_solvers_holds_each_against_heun_s_end_and_the_ancestral_chain(
    trained, monkeypatch
):
    """With few images; the first are the same with and without distances."""
    monkeypatch.setattr(solvers, "STEPS", (2, 4))
    monkeypatch.setattr(solvers, "COUNT", 8)
    monkeypatch.setattr(solvers, "SEEDS", 2)
    plain = solvers.solvers(trained(**{"eval.quality.space": "inception"}))
    assert "frechet" not in plain.facts
    drawn = solvers.solvers(trained(**{"eval.quality.samples": 8}))
    assert drawn.facts["rmse"] == plain.facts["rmse"]
    assert set(drawn.facts["rmse"]) == set(solvers.EVALUATIONS)
    found = drawn.facts["frechet"]
    assert found["samples"] == 8 and np.shape(found["ancestral"]) == (1, 2)
    for name in solvers.EVALUATIONS:
        assert np.shape(found[name]) == (2, 2)
        assert all(one != other for one, other in found[name])  # two seeds
        assert drawn.facts["rmse"][name][1] < drawn.facts["rmse"][name][0]


def test_the_figure_of_compression_holds_files_against_their_bound(loud_run, monkeypatch):
    monkeypatch.setattr(compression, "IMAGES", 2)
    monkeypatch.setattr(compression.poisson, "bits_per_kl_bit", lambda: 1.4)  # seconds of draws
    run = loud_run()
    with pytest.raises(ValueError, match="--mode=calibrate"):
        program.check(run, ["compression"])
    calibrate.calibrate(run)
    program.check(run, ["compression"])
    program.figures(run, ["compression"])
    path = run.directory / "figures" / "4-compression"
    facts = json.loads(path.with_name("4-compression.json").read_text())
    Image.open(path.with_name("4-compression.png")).verify()
    files, bound, dims = facts["files"], facts["bound"], 64
    assert facts["images"] == 2 and len(files["totals"]) == len(bound["totals"]) == 2
    for curve in (files, bound):  # the parts of a file make up the whole
        parts = curve["header"] + sum(curve["step_bits_per_dim"]) + curve["last_layer"]
        prior = curve["total"] - parts
        assert -1e-9 < prior < 0.5, curve
        assert len(curve["rate"]) == len(curve["rmse"]) == len(facts["times"])
        assert (np.diff(curve["rate"]) > 0).all()
    assert files["total"] * dims % 4 == 0  # whole bytes, the mean of two files
    assert files["rate"][-1] + files["last_layer"] == pytest.approx(files["total"], abs=8 / dims)
    assert facts["ratio"]["beyond_the_header"] < facts["ratio"]["file_by_bound"]
    for name in ("jpeg", "webp"):
        rmse = facts["others"][name]["rmse"]
        assert rmse[0] > rmse[-1] >= 0.0  # of the worst and the best quality
