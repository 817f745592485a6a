"""What an export writes on a hub: a card of the run's own numbers, and nothing over what others have written."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from support import loud
from support.command import ddpm
from support.hub import card

from ddpm_jax.run import state
from ddpm_jax.weights import exporting, model_card, tensor_files
from ddpm_jax.weights import hub as hub_module

NAME = "someone/photos"
BOUND = {
    "bits_per_dim": 3.4567,
    "rate": 1.2345,
    "distortion": 2.2222,
    "rate_standard_error": 0.013,
    "distortion_standard_error": 0.017,
    "standard_error": 0.0191,
    "images": 123,
    "steps": 50,
    "of_steps": 400,
    "split": "train[95%:]",
    "weights": "ema",
    "seed": 7,
}
SCORES = {
    "scores": {"fid_20k_train": 31.41, "kid_10k_train": 0.0271, "kid_10k_train_std": 0.0016},
    "samples": 20_000,
    "few_samples": False,
    "sampler": "ancestral-4",
    "seed": 5,
    "space": "inception",
}


@pytest.fixture
def run(photos, tmp_path):
    """This test's own copy of a run that was trained."""
    run = loud.copy(photos, tmp_path / "run")
    (run.directory / "metrics.jsonl").write_text('{"step": 4}\n')
    return run


def measure(run, name, record):
    (run.directory / "eval").mkdir(exist_ok=True)
    (run.directory / "eval" / name).write_text(json.dumps(record))


def write(run, content=None, grid=None, parameters=1_234_567):
    return model_card.write(run, loud.STEP, parameters, NAME, grid, content)


def part(text, heading):
    """The text under a heading, up to the next."""
    return re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)[1]


def test_what_was_not_measured_is_said_and_has_no_number(run):
    measured = part(write(run), "Measured")
    assert measured.count("not measured") == 2 and not re.search(r"\d", measured)


def test_every_number_of_what_was_measured_is_in_its_file(run):
    measure(run, "4-likelihood-train-95to.json", BOUND)
    measure(run, "4-quality.json", SCORES)
    measured = part(write(run), "Measured")
    said = "| bound | 3.457 | 0.019 |", "| rate | 1.234 | 0.013 |", "| distortion | 2.222 | 0.017 |"
    said += "| `fid_20k_train` | 31.41 | not measured |", "| `kid_10k_train` | 0.0271 | 0.0016 |"
    said += (
        "123 images of `train[95%:]`",
        "50 of 400 steps, seed 7",
        "20,000 samples (ancestral-4, seed 5)",
    )
    for words in said:
        assert words in measured
    commands = re.findall("```sh\n(.*)\n```", measured)
    start = "ddpm evaluate runs/run --step=4 --config.eval."
    assert commands == [
        f"{start}images=123 --config.eval.steps=50 --config.eval.seed=7",
        f"{start}quality.samples=20000 --config.eval.quality.space=inception"
        " --config.sample.solver=ancestral --config.sample.steps=4 --config.sample.seed=5",
    ]


@pytest.mark.parametrize(
    "name, record",
    [
        ("8-likelihood-train-95to.json", BOUND),  # of another step
        ("4-raw-likelihood-train-95to.json", BOUND),  # of other weights
        ("4-likelihood-train-95to.json", {"bits_per_dim": 3.4}),  # half of a file
        (
            "4-quality.json",
            {k: v for k, v in SCORES.items() if k != "sampler"},
        ),  # of others' images
    ],
)
def test_what_is_not_this_models_is_not_measured(name, record, run):
    measure(run, name, record)
    assert part(write(run), "Measured").count("not measured") == 2


def test_a_sampler_whose_options_are_not_known_has_no_command(run):
    measure(run, "4-quality.json", SCORES | {"sampler": "ddim-50"})
    measured = part(write(run), "Measured")
    assert "(ddim-50, seed 5)" in measured and "```" not in measured


def test_what_was_trained_is_the_runs(run):
    training = part(write(run), "Training")
    for words in ("| steps | 4, of 128 images each |", "| parameters | 1,234,567 |", "| T | 4 |"):
        assert words in training
    for words in ("16x16", "`simple`", "beta from 0.0001 to 0.02", "decay 0.9999", "image_folder"):
        assert words in training
    assert str(run.directory.parent) not in write(run)  # no path of this machine


def test_weights_that_were_imported_have_no_training(run):
    (run.directory / "metrics.jsonl").unlink()
    training = part(write(run), "Training")
    for name in ("data", "steps", "loss", "optimizer"):
        assert f"| {name} | not known: the weights were imported |" in training
    assert "| weights | as imported |" in training


def test_the_metadata_is_what_the_hub_reads_and_the_licence_is_left_to_the_user(run):
    found = card({"README.md": write(run).encode()})
    assert found == {
        "library_name": "diffusers",
        "pipeline_tag": "unconditional-image-generation",
        "tags": ["diffusers", "ddpm_jax", "unconditional-image-generation"],
    }
    chosen = {"license": "other", "license_name": "my: own", "license_link": "LICENSE"}
    kept = card({"README.md": write(run, hub_module.Content("1", chosen)).encode()})
    assert kept == found | chosen


def test_the_card_of_an_installed_library_is_the_same(run):
    """By huggingface_hub's own reader, which is stricter than YAML."""
    repocard = pytest.importorskip("huggingface_hub.repocard")
    found = repocard.ModelCard(write(run)).data
    assert found.library_name == "diffusers" and found.license is None and "ddpm_jax" in found.tags


def picture(run, name, level):
    (run.directory / "samples").mkdir(exist_ok=True)
    Image.fromarray(np.full((4, 4), level, np.uint8)).save(run.directory / "samples" / name)


def test_the_grid_is_of_this_step_and_these_weights(run):
    raw = run._replace(weights="raw")
    assert model_card.find_grid(run, 4) is None
    for name in ("8-grid.png", "14-ancestral-4-2-seed0.png", "4-raw-ancestral-4-2-seed0.png"):
        picture(run, name, 1)
    assert model_card.find_grid(run, 4) is None
    assert model_card.find_grid(raw, 4).name == "4-raw-ancestral-4-2-seed0.png"
    picture(run, "4-grid.png", 2)
    assert model_card.find_grid(run, 4).name == "4-grid.png"
    assert "](samples.png)" in write(run, grid=model_card.find_grid(run, 4))
    assert "samples.png" not in write(run)


@pytest.fixture
def export(hub, run, monkeypatch):
    """Exports the run to a repository, without the reading of a checkpoint."""
    params = loud.weights(state.abstract(run).params, loud.EMA)
    monkeypatch.setattr(state, "read_weights", lambda run: (loud.STEP, params))

    def once(name=NAME):
        exporting.check_export(run, f"hf:{name}", "diffusers")
        exporting.export(run, f"hf:{name}", "diffusers")
        return hub.files(name)

    return once


MODEL = {"model_index.json", "unet/config.json", f"unet/{tensor_files.WEIGHTS[0]}"}
MODEL |= {"scheduler/scheduler_config.json", "README.md", ".gitattributes"}


def test_a_later_export_is_a_commit_that_keeps_the_licence_and_no_old_grid(
    export, hub, run, capsys
):
    picture(run, "4-grid.png", 3)
    first = export()
    assert (
        first.keys() == MODEL | {"samples.png"} and "(samples.png)" in first["README.md"].decode()
    )
    licensed = first["README.md"].replace(b"library_name", b"license: mit\nlibrary_name")
    hub.add(NAME, first | {"README.md": licensed})
    (run.directory / "samples" / "4-grid.png").unlink()
    capsys.readouterr()
    second = export()
    assert second.keys() == MODEL and card(second)["license"] == "mit"
    assert len(hub.repositories[NAME].commits) == 4  # made, exported, licensed, exported
    assert capsys.readouterr().out == f"exported {hub.url}/{NAME}\n"


@pytest.mark.parametrize("found", [{}, {"README.md": b"---\nlicense: mit\n---\n"}])
def test_an_empty_repository_may_have_been_made_by_hand(found, export, hub):
    hub.add(NAME, {".gitattributes": b"", **found})
    assert export().keys() == MODEL and not hub.repositories[NAME].private
    assert card(hub.files(NAME)).get("license") == ("mit" if found else None)


@pytest.mark.parametrize(
    "found, words",
    [
        ({"model_index.json": b"{}", "a": b""}, "already holds model_index.json, which no export"),
        ({"notes.txt": b""}, "already holds notes.txt, which no export from ddpm_jax has written"),
        ({"x": b"", "README.md": b"---\ntags:\n- diffusers\n---\n"}, "already holds x, which no"),
    ],
)
def test_nothing_is_written_over_what_others_have_made(found, words, export, hub):
    hub.add(NAME, found)
    with pytest.raises(ValueError, match=words):
        export()
    assert hub.files(NAME) == found and {method for method, _, _ in hub.requests} == {"GET"}


def test_a_commit_that_came_in_between_is_an_error(export, hub, run, monkeypatch):
    export()
    write_card = model_card.write

    def meanwhile(*args):
        hub.add(NAME, hub.files(NAME) | {"another": b""})
        return write_card(*args)

    monkeypatch.setattr(model_card, "write", meanwhile)
    with pytest.raises(hub_module.Unreachable, match="has changed in the meantime"):
        export()
    assert "another" in hub.files(NAME)


def test_a_token_is_needed_and_has_to_have_the_right(export, hub, run, monkeypatch):
    with pytest.raises(ValueError, match="forbids this for hf:other/photos; the token needs"):
        export("other/photos")
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere")
    hub.requests.clear()
    status, _, err = ddpm("export", run.directory, f"--target=hf:{NAME}")
    assert (status, err.count("\n")) == (2, 1) and "there is no token of the hub; set" in err
    assert not hub.requests and not hub.repositories


@pytest.mark.parametrize(
    "args, words",
    [
        (["--target=hf:someone/x@v1"], "a target has no revision"),
        (["--target=hf:x"], "'hf:x' must be hf:OWNER/NAME"),
        (["--target=hf:someone/x", "--format=png"], "only --format=diffusers is uploaded, not png"),
    ],
)
def test_what_is_mistyped_is_told_before_the_hub_is_asked(args, words, hub, run):
    status, _, err = ddpm("export", run.directory, *args)
    assert (status, err.count("\n")) == (2, 1) and words in err and not hub.requests
