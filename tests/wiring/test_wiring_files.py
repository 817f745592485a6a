"""Which files of a run are taken up again, under which names numbers are written, and whose weights each program takes."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import events, loud

from ddpm_jax.codec import measure
from ddpm_jax.codec.commands import calibrate, inputs
from ddpm_jax.evaluation import bound, evaluate, follow, history_figure, quality, quality_file
from ddpm_jax.figures import latents, program, trajectories
from ddpm_jax.losses.bound import Bound
from ddpm_jax.metrics import frechet
from ddpm_jax.metrics.features import Embedding, Space
from ddpm_jax.run import record, sampling, state
from ddpm_jax.runtime import files, resumable
from ddpm_jax.runtime import images as image_output
from ddpm_jax.weights import exporting


def drawn(run, draw=loud.EMA):
    return jax.tree.map(jnp.asarray, loud.weights(state.abstract(run).params, draw))


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def reach(monkeypatch, module, name, program):
    """The arguments with which 'program' calls a function of a module; it goes no further."""
    calls = []

    def recorded(*args, **fields):
        calls.append(args)
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(module, name, recorded)
        with pytest.raises(InterruptedError):
            program()
    return calls[0]


PROGRAMS = {  # what takes weights, and the function that is then called with them
    "sample": (sampling.generate, sampling, "write_samples", 2),
    "quality": (quality.quality, quality, "samples", 2),
    "bound": (evaluate.evaluate, bound, "bounds", 1),
    "figures": (lambda run: program.figures(run, ["grid"]), program, "TrainedRun", 2),
    "calibrate": (calibrate.calibrate, measure, "errors", 1),
    "compress": (lambda run: inputs.open_codec(run, "portable"), inputs.model, "codec", 2),
    "export samples": (
        lambda run: exporting.export(run, f"{run.directory}/out.npz", "npz"),
        *(sampling, "write_samples", 2),
    ),
    "export": (
        lambda run: exporting.export(run, f"{run.directory}/out", "diffusers"),
        *(exporting.formats, "to_tensors", 1),
    ),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_takes_the_weights_that_it_is_asked_for(loud_run, monkeypatch, name):
    program, module, function, place = PROGRAMS[name]
    fields = (
        {"eval.quality.samples": 4, "eval.quality.space": "pixels"} if name == "quality" else {}
    )
    run = loud_run(**{"eval.images": 8 if name == "bound" else 0} | fields)
    monkeypatch.setattr(inputs.calibration, "read", lambda path: path)
    for weights, draw in (("ema", loud.EMA), ("raw", loud.RAW)):
        asked = run._replace(weights=weights)
        args = reach(monkeypatch, module, function, lambda asked=asked: program(asked))
        assert_same(args[place], drawn(run, draw))


def test_files_of_raw_weights_do_not_pass_for_the_averages(loud_run, monkeypatch):
    """Samples, bounds, accuracies, scores, calibrations, histories and figures have names of their own, and say so."""
    run = loud_run(**{"eval.images": 8})
    raw = run._replace(weights="raw")
    grey = {"ema": 1.0, "raw": -1.0}
    monkeypatch.setattr(
        sampling, "draw_batch", lambda run, *_: jnp.full((8, 8, 8, 1), grey[run.weights])
    )
    sampling.generate(raw)
    assert sampling.find_samples(run, loud.STEP, 8) is None
    sampling.generate(run)
    for each, level in ((run, 255), (raw, 0)):
        assert (sampling.find_samples(each, loud.STEP, 8) == level).all()

    made = Bound(np.ones(8), np.ones((8, 8)), np.ones((8, 8)))
    monkeypatch.setattr(bound, "bounds", lambda *_: (made, 0.0))
    for each in (raw, run):
        bound.likelihood(each, "test", 8)
        (path,) = bound.record_paths(each, loud.STEP)
        assert json.loads(path.read_text())["weights"] == each.weights
        quality_file.write(each, loud.STEP, quality.facts(each) | {"samples": 8})
        (found,) = quality_file.read(each, loud.STEP)
        assert found["weights"] == each.weights
        assert program.facts(each, loud.STEP)["weights"] == each.weights
    assert follow.settings(raw) != follow.settings(run)
    shown = {(step, name) for step, name, _ in events.scalars(run.directory / "eval")}
    kinds = "bits_per_dim_test", "rate_test", "distortion_test"
    assert shown == {(loud.STEP, f"{start}{kind}") for start in ("", "raw-") for kind in kinds}
    names = {path.name for path in (run.directory / "eval").glob("*.json")}
    assert names == {
        f"4-{weights}{name}.json"
        for weights in ("", "raw-")
        for name in ("likelihood-test", "quality")
    }


KEEPS = {  # programs whose work is kept in parts
    "sample": ("plain", sampling.generate),
    "bound": ("plain", evaluate.evaluate),
    "accuracy": ("classifier", evaluate.evaluate),
    "figures": ("plain", lambda run: program.figures(run, ["progressive"])),
}


@pytest.mark.parametrize("name", KEEPS)
def test_unfinished_parts_are_taken_up_by_the_same_weights_and_settings_only(
    loud_run, monkeypatch, name
):
    kind, program = KEEPS[name]

    def folder(draw=loud.EMA, **fields):
        run = loud_run(kind, **{"eval.images": 12} | fields)
        average = jax.tree.map(jnp.asarray, drawn(run, draw))
        monkeypatch.setattr(state, "read_weights", lambda run: (loud.STEP, average))
        return reach(monkeypatch, resumable, "collect", lambda: program(run))[0]

    usual = folder()
    assert usual == folder()
    section = "sample" if name in ("sample", "figures") else "eval"
    others = [folder(draw=9), folder(**{f"{section}.seed": 9}), folder(**{"parallel.devices": 2})]
    if name != "figures":  # its batches are its own, and in their names
        others.append(folder(**{f"{section}.batch_size": 4}))
    assert usual not in others and len(set(others)) == len(others)


def test_samples_that_are_there_are_found_by_step_solver_seed_and_number(loud_run):
    run = loud_run()
    images = np.arange(6 * 64, dtype=np.uint8).reshape(6, 8, 8, 1)
    image_output.write_npz(run.directory / "samples" / "4-ancestral-8-6-seed5.npz", images)
    np.testing.assert_array_equal(sampling.find_samples(run, 4, 5), images[:5])
    assert sampling.find_samples(run, 4, 7) is None
    assert sampling.find_samples(run, 14, 5) is None and sampling.find_samples(run, 2, 5) is None
    for field, value in {"seed": 50, "solver": "ddim", "steps": 7}.items():
        assert sampling.find_samples(loud_run(**{f"sample.{field}": value}), 4, 5) is None, field


def test_scores_are_of_as_many_samples_as_are_asked_for_by_the_samples_seed(loud_run, monkeypatch):
    run = loud_run(**{"eval.quality.samples": 6})
    images, calls = np.zeros((6, 8, 8, 1), np.uint8), []
    monkeypatch.setattr(sampling, "write_samples", lambda *args: calls.append(args) or images)
    quality.samples(run, 4, "weights")
    ((asked, step, params),) = calls
    assert (asked.sample.count, asked.sample.seed, step, params) == (6, 5, 4, "weights")
    how = {"sampler": "ancestral-8", "seed": 5, "weights": "ema", "space": "classifier"}
    assert quality.facts(run) == how
    for seed, value in ((5, 1), (6, 2)):
        image_output.write_npz(
            run.directory / "samples" / f"4-ancestral-8-6-seed{seed}.npz", images + value
        )
    found = quality.samples(run, 4, "weights")
    assert (found == 1).all()


def side(vectors, count, score=None):
    """What 'count' images are of which these vectors were kept."""
    vectors = np.asarray(vectors, np.float32)
    all_ = frechet.statistics(vectors)._replace(count=count)
    return Embedding(statistics=all_, vectors=vectors, inception_score=score)


def test_every_score_is_under_its_own_name_with_its_own_number_of_images():
    """Samples that are all like some of the data have full precision, and recall only what they cover."""
    rng = np.random.default_rng(0)
    some, rest = rng.normal(size=(100, 2)), 50.0 + rng.normal(size=(300, 2))
    real = {
        "train": side(np.concatenate([some, rest]), 60_000),
        "test": side(rest, 2000, (3.0, 0.1)),
    }
    fake = side(some, 50_000, (7.0, 0.5))
    for name in ("inception", "pixels"):
        found = quality.flatten(quality.measure(Space(name, {}, None), fake, real))
        of = "" if name == "inception" else "_pixels"
        assert found[f"precision{of}_100_train"] == 1.0
        assert found[f"recall{of}_100_train"] == 0.25
        assert found[f"precision{of}_100_test"] == found[f"recall{of}_100_test"] == 0.0
        distance = "fid" if name == "inception" else "frechet_pixels"
        for split, each in real.items():
            expected = frechet.distance(fake.statistics, each.statistics)
            assert found[f"{distance}_50k_{split}"] == pytest.approx(expected)
        assert (found[f"is{of}_50k"], found[f"is{of}_50k_std"]) == (7.0, 0.5)
        assert found[f"is{of}_2k_test"] == 3.0
        assert found[f"kid{of}_100_test"] > found[f"kid{of}_100_train"]
        floor = frechet.distance(real["test"].statistics, real["train"].statistics)
        assert found[f"floor_{distance}_test_2k_train"] == pytest.approx(floor)


@pytest.mark.parametrize(
    "name, wanted",
    [("is_8", 4), ("precision_8_train", 4), ("recall_8_train", 4), ("spread_8", 4)]
    + [("fid_8_train", 6), ("kid_8_train", 6), ("bits_per_dim_test", 6)],
)
def test_the_best_checkpoint_is_the_highest_of_scores_and_the_lowest_of_distances(
    loud_run, monkeypatch, name, wanted
):
    fields = {"images": 8, "quality.samples": 8, "quality.metrics": ("support.own_code:SPREAD",)}
    run = loud_run(**{"eval.best": name} | {f"eval.{field}": fields[field] for field in fields})
    for step in (2, 4, 6):
        files.write(run.checkpoints / f"{step}" / "whatever", "is not read here")
    values = {2: 2.0, 4: 3.0, 6: 1.0}

    def evaluated(run):
        step = int(run.checkpoints.parent.name)
        if name.startswith("bits"):
            files.write_json(bound.record_path(run, step, "test"), {"bits_per_dim": values[step]})
        else:
            found = quality.facts(run) | {"samples": 8, "scores": {name: values[step]}}
            quality_file.write(run, step, found)

    monkeypatch.setattr(evaluate, "evaluate", evaluated)
    monkeypatch.setattr(history_figure, "draw", lambda *args: None)
    follow.follow(run)
    best = run.directory / "best"
    assert json.loads((best / "best.json").read_text()) == {"step": wanted, name: values[wanted]}
    assert [path.name for path in (best / "checkpoints").iterdir()] == [f"{wanted}"]


MAY_CHANGE = (  # between one start of a run and the next
    *("data.data_dir", "model.dtype", "parallel", "sample", "eval", "train.steps"),
    *("train.on_nonfinite", "train.log_every", "train.checkpoint_every", "train.sample_every"),
    *("train.keep_every", "train.checkpoint_minutes", "train.tracker"),
)


def test_what_decides_a_run_s_numbers_may_not_change_under_it(loud_run):
    run = loud_run()
    for field, value in record.flatten(run.config).items():
        changed = json.loads(json.dumps(run.config))
        *sections, name = field.split(".")
        section = changed
        for each in sections:
            section = section[each]
        section[name] = f"other than {value}"
        if field in MAY_CHANGE or field.partition(".")[0] in MAY_CHANGE:
            record.check_same_run(run.directory, changed)
        else:
            with pytest.raises(ValueError, match=f"with another config: {field} "):
                record.check_same_run(run.directory, changed)


def test_a_figure_s_images_noise_and_walks_are_of_the_samples_seed(loud_run):
    def made(seed):
        run = loud_run(**{"sample.seed": seed})
        trained = trajectories.TrainedRun(run, 4, None, None, None)
        indices, x_0 = trajectories.real_images(trained, "test", 4)
        (x_t,) = trajectories.diffuse(trained, np.zeros_like(x_0), [8])
        trained = trained._replace(program=sampling.make_program(run.model, run.sample.chain))
        walk = trajectories.Walk((0,), np.arange(4))
        (x_T,) = trajectories.run_batch(trained, walk, trajectories.observe_x_t, lambda steps: None)
        return indices, x_t, x_T

    for one, other in zip(made(5), made(6), strict=True):
        assert (np.asarray(one) != np.asarray(other)).any()


def test_images_are_no_distance_from_themselves_in_the_figure_of_shared_latents(
    loud_run, monkeypatch
):
    """The mean over pairs of two images, by a loop over them."""
    run = loud_run()
    program = sampling.make_program(run.model, run.sample.chain)
    trained, rng = trajectories.TrainedRun(run, 4, None, program, None), np.random.default_rng(0)
    walked = []

    def run_walks(trained, label, walks, *_):
        shapes = [(len(walk.marks), len(walk.numbers), 8, 8, 1) for walk in walks]
        walked[:] = [rng.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]
        return walked

    monkeypatch.setattr(trajectories, "run_walks", run_walks)
    found = latents.shared_latents(trained).facts["rmse_between_continuations"]
    assert len(found) == len(walked) == 4
    for value, seen in zip(found, walked, strict=True):
        images = seen[-1].astype(np.float64)
        pairs = [(a, b) for i, a in enumerate(images) for b in images[:i]]
        apart = [127.5 * np.sqrt(np.mean((a - b) ** 2)) for a, b in pairs]
        assert value == pytest.approx(np.mean(apart), rel=1e-5)
