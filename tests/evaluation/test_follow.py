"""Evaluation over training: each checkpoint, once, and the best of them kept."""

import json
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, tiny_config
from etils import epath
from support.stub import stubbed

from ddpm_jax.config import build
from ddpm_jax.evaluation import evaluate, follow, history_figure, quality, quality_file
from ddpm_jax.run import state
from ddpm_jax.run.run import Quality
from ddpm_jax.runtime import lock, signals
from ddpm_jax.training import train


def config_of(digits):
    config = tiny_config(digits)
    config.eval.update(images=8)
    config.optimizer.ema_decay = 0.0
    return config


def run_in(digits, folder):
    """With the least network: what is followed are its checkpoints."""
    return stubbed(build.run(config_of(digits), epath.Path(folder)))


@pytest.fixture(scope="module")
def original(digits, tmp_path_factory):
    """The folder of a run with checkpoints at 2, 4 and 6."""
    folder = epath.Path(tmp_path_factory.mktemp("original"))
    train.train(run_in(digits, folder))
    return folder


@pytest.fixture
def trained(digits, original, tmp_path):
    """A copy of that run."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return run_in(digits, tmp_path)


def rows(folder):
    return json.loads((folder / "eval" / "history.json").read_text())["rows"]


def test_every_checkpoint_is_evaluated_once_and_the_best_can_be_sampled_from(
    trained, tmp_path, monkeypatch, digits
):
    seen = []
    monkeypatch.setattr(
        evaluate, "evaluate", lambda run, plain=evaluate.evaluate: (seen.append(run), plain(run))
    )
    drawn = []
    draw = history_figure.draw
    monkeypatch.setattr(history_figure, "draw", lambda *args: (drawn.append(args[1:]), draw(*args)))
    follow.follow(trained)
    follow.follow(trained)
    assert [run.checkpoints.parent.name for run in seen] == ["2", "4", "6"]
    found = {int(step): row["bits_per_dim_test"] for step, row in rows(tmp_path).items()}
    for step, bits in found.items():
        written = json.loads((tmp_path / "eval" / f"{step}-likelihood-test.json").read_text())
        assert written["bits_per_dim"] == bits
    best = min(found, key=found.get)
    assert json.loads((tmp_path / "best" / "best.json").read_text()) == {
        "step": best,
        "bits_per_dim_test": found[best],
    }
    assert [path.name for path in (tmp_path / "best" / "checkpoints").iterdir()] == [f"{best}"]
    alone = run_in(digits, tmp_path / "best")
    step, params = state.read_ema(alone)
    assert step == best and alone.model.shape == (8, 8, 1)
    assert (tmp_path / "figures" / "history.png").exists()
    assert len(drawn) == 3 and drawn[-1][1:] == ("bits_per_dim_test", best)
    assert {step: row["bits_per_dim_test"] for step, row in drawn[-1][0].items()} == found
    assert not list((tmp_path / "following").iterdir())


def test_a_step_that_training_is_measuring_is_looked_at_again(trained, tmp_path, monkeypatch):
    refused = []

    def busy(run, plain=evaluate.evaluate):
        if run.checkpoints.parent.name == "6" and not refused:
            refused.append(run)
            raise lock.InUse("its folder is in use")
        plain(run)

    monkeypatch.setattr(evaluate, "evaluate", busy)
    monkeypatch.setattr(follow, "POLL", 0.0)
    follow.follow(trained)
    assert refused and rows(tmp_path).keys() == {"2", "4", "6"}


def test_a_history_of_before_a_field_was_there_is_gone_on_with(trained, tmp_path):
    asked = follow.settings(trained)
    del asked["sample"]["spacing"], asked["sample"]["classifier"]
    record = {"asked": asked, "rows": {"2": {"bits_per_dim_test": 3.0}}}
    (tmp_path / "eval").mkdir(exist_ok=True)
    (tmp_path / "eval" / "history.json").write_text(json.dumps(record))
    assert follow.history(trained) == {2: {"bits_per_dim_test": 3.0}}


def test_a_checkpoint_that_is_being_deleted_is_left_out(trained, tmp_path, monkeypatch, capsys):
    """A part of it was gone when the copy began, and all of it when the copy was read."""

    def torn(source, target, whole=follow.copy):
        done = whole(source, target)
        if source.name == "4":
            (target / "record").rmtree()
            source.rmtree()
        return done

    monkeypatch.setattr(follow, "copy", torn)
    follow.follow(trained)
    assert set(rows(tmp_path)) == {"2", "6"}
    assert "checkpoint 4 was deleted while it was being copied" in capsys.readouterr().out
    assert not list((tmp_path / "following").iterdir())


def test_stopped_it_goes_on_with_what_is_left(trained, tmp_path, monkeypatch):
    evaluate_step = follow.evaluate_step

    def interrupted(run, step):
        evaluate_step(run, step)
        signals.pending.append("SIGTERM")

    monkeypatch.setattr(signals, "pending", [])
    monkeypatch.setattr(follow, "evaluate_step", interrupted)
    with pytest.raises(signals.Stopped):
        follow.follow(trained)
    assert len(rows(tmp_path)) < 3
    monkeypatch.setattr(signals, "pending", [])
    monkeypatch.setattr(follow, "evaluate_step", evaluate_step)
    follow.follow(trained)
    assert list(rows(tmp_path)) == ["2", "4", "6"]


def test_other_settings_are_another_history(trained, tmp_path):
    follow.follow(trained)
    other = trained._replace(config=trained.config | {"eval": trained.config["eval"] | {"seed": 1}})
    assert len(follow.history(trained)) == 3 and follow.history(other) == {}


def test_which_number_decides():
    row = {"bits_per_dim_test": 3.0, "frechet_pixels_12_train": 4.0, "is_classifier_12": 5.0}

    def chosen(best):
        return follow.criterion(best, row)

    assert chosen("") == "frechet_pixels_12_train"
    assert chosen("bits_per_dim") == "bits_per_dim_test" and chosen("is_") == "is_classifier_12"
    with pytest.raises(ValueError, match="eval.best is 'bits_per_dimm'.*did you mean"):
        chosen("bits_per_dimm")


@pytest.mark.parametrize(
    "best, step", [("", "2"), ("is_", "4"), ("precision_", "4"), ("frechet_", "2")]
)
def test_the_best_is_the_lowest_or_the_highest_as_its_metric_says(
    trained, tmp_path, monkeypatch, best, step
):
    numbers = {"2": 1.0, "4": 3.0, "6": 2.0}

    def evaluate_nothing(run):
        value = numbers[run.checkpoints.parent.name]
        names = "is_classifier_9", "precision_classifier_9_train", "frechet_classifier_9_train"
        path = run.directory / "eval" / f"{run.checkpoints.parent.name}-quality.json"
        path.parent.mkdir(exist_ok=True)
        facts = quality.facts(run) | {"samples": 9}
        path.write_text(json.dumps(facts | {"scores": dict.fromkeys(names, value)}))

    monkeypatch.setattr(evaluate, "evaluate", evaluate_nothing)
    asked = trained.eval.quality._replace(samples=9)
    follow.follow(trained._replace(eval=trained.eval._replace(best=best, quality=asked)))
    assert [path.name for path in (tmp_path / "best" / "checkpoints").iterdir()] == [step]


def test_a_history_has_the_scores_that_it_asked_for(trained, tmp_path):
    """Not those of others' samples, which were measured at the same step meanwhile; nor a bound that it did not."""
    asked = trained._replace(
        eval=trained.eval._replace(images=0, quality=Quality(9, "", "pixels", "", ""))
    )
    own = quality.facts(asked) | {"samples": 9, "scores": {"frechet_pixels_9_train": 1.0}}
    theirs = {"samples_from": "x.npy", "samples": 9, "scores": {"frechet_pixels_9_train": 7.0}}
    for record in (own, theirs | {"space": "pixels"}):
        quality_file.write(asked, 4, record)
    (tmp_path / "eval" / "4-likelihood-test.json").write_text(json.dumps({"bits_per_dim": 3.0}))
    assert follow.read_numbers(asked, 4) == own["scores"]
    assert follow.read_numbers(trained, 4) == {"bits_per_dim_test": 3.0}


def test_the_faithful_run_is_read_off_between_its_points():
    for step, fid in history_figure.FAITHFUL.items():
        assert history_figure.faithful_fid(step) == pytest.approx(fid)
    assert 3.31 < history_figure.faithful_fid(300_000) < 4.083


@pytest.mark.slow
def test_it_follows_a_run_that_deletes_its_checkpoints(digits, tmp_path):
    """Two real processes that race for the same checkpoints."""
    common = [
        f"--config={ROOT}/configs/digits.py",
        f"--workdir={tmp_path / 'run'}",
        f"--config.data.data_dir={digits}",
        "--config.model.channels=4",
        "--config.model.attention=()",
        "--config.train.steps=400",
        "--config.train.checkpoint_every=50",
        "--config.train.keep=1",
        "--config.train.sample_every=0",
        "--config.eval.images=16",
        "--config.eval.steps=4",
        "--config.eval.batch_size=16",
        "--config.eval.quality.samples=0",
    ]
    main = [sys.executable, "-m", "ddpm_jax.main", *common]
    train = subprocess.Popen(main, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for line in train.stdout:
        if "step " in line:
            break
    done = subprocess.run(
        [*main, "--mode=evaluate", "--follow"], cwd=ROOT, capture_output=True, text=True
    )
    train.communicate()
    assert train.returncode == 0 and done.returncode == 0, done.stderr
    found = rows(tmp_path / "run")
    assert "400" in found and len(found) >= 2
    values = {step: row["bits_per_dim_test"] for step, row in found.items()}
    best = min(values, key=values.get)
    assert [path.name for path in (tmp_path / "run" / "best" / "checkpoints").iterdir()] == [best]
