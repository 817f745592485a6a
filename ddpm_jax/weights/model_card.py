"""The model card of a run, README.md of its repository: what was trained, and what was measured of it.

Every number is the run's own: of its config, its checkpoint or its files in eval/. What has no file there is
"not measured".
"""

import json
import shlex
from typing import Any

from etils import epath

from ddpm_jax.evaluation import bound, quality_file
from ddpm_jax.run.run import Run
from ddpm_jax.weights import hub

GRID = "samples.png"
METADATA = f"""\
library_name: diffusers
pipeline_tag: unconditional-image-generation
tags:
- diffusers
- {hub.TAG}
- unconditional-image-generation"""
NO_LICENCE = "# license: apache-2.0  # choose one; without it others have no right to use the model"
UNKNOWN = "not known: the weights were imported"
BOUND = {"bits_per_dim", "rate", "distortion", "images", "split", "steps", "of_steps", "seed"}
SCORES = {"scores", "samples", "sampler", "seed", "space"}  # no sampler: images from elsewhere
Row = tuple[str, ...]


def find_grid(run: Run, step: int) -> epath.Path | None:
    """Returns the newest grid of samples of a step and of the weights that the run reads; None without one."""
    folder, start = run.directory / "samples", f"{step}-{run.prefix}"
    if not folder.exists():
        return None
    found = [
        path
        for path in folder.iterdir()
        if path.suffix == ".png"
        and path.name.startswith(start)
        and (run.prefix or not path.name.startswith(f"{step}-raw-"))
    ]
    if run.prefix:  # training draws its grids with the EMA
        found = [path for path in found if path.name != f"{step}-grid.png"]
    return max(found, key=lambda path: path.stat().mtime, default=None)


def write(
    run: Run,
    step: int,
    parameters: int,
    id: str,
    grid: epath.Path | None,
    content: hub.Content | None,
) -> str:
    """Returns the card of a step's model, with the licence that the repository's card states already."""
    licence = content.licence if content else {}
    lines = [f"{name}: {json.dumps(value)}" for name, value in licence.items()] or [NO_LICENCE]
    height, width, channels = run.model.shape
    parts = [
        "\n".join(["---", METADATA, *lines, "---"]),
        f"# {id.partition('/')[2]}",
        f"An unconditional diffusion model (DDPM, [Ho et al. 2020](https://arxiv.org/abs/2006.11239)) of"
        f" {height}x{width} images with {channels} channel{'s' if channels > 1 else ''}, exported from a run of"
        f" ddpm_jax.",
    ]
    if grid is not None:
        parts.append(f"![Samples of this model]({GRID})\n\n*Samples of this model: `{grid.stem}`.*")
    parts += ["## Training", table(("", ""), training_rows(run, step, parameters))]
    parts += ["## Measured", *measured(run, step), "## Use", usage(run, id)]
    return "\n\n".join(parts) + "\n"


def training_rows(run: Run, step: int, parameters: int) -> list[Row]:
    """Returns what was trained, and how, as rows of name and value."""
    config, height, width = run.config, *run.model.shape[:2]
    diffusion, schedule = config["diffusion"], config["diffusion"]["schedule"]
    trained = (run.directory / "metrics.jsonl").exists()
    betas = (
        f", beta from {schedule['beta_1']:g} to {schedule['beta_T']:g}"
        if "beta_1" in schedule
        else ""
    )
    numbers = (
        ("data", f"`{config['data']['name']}`, split `{config['data']['split']}`"),
        ("steps", f"{step:,}, of {run.train.batch_size} images each"),
        ("loss", f"`{diffusion['loss']}`"),
        ("optimizer", f"Adam, learning rate {config['optimizer']['learning_rate']:g}"),
    )
    average = f"their average over training, of decay {config['optimizer']['ema_decay']:g}"
    weights = "as imported" if not trained else average if run.weights == "ema" else "as trained"
    return [
        *((name, value if trained else UNKNOWN) for name, value in numbers),
        ("image size", f"{height}x{width}"),
        ("parameters", f"{parameters:,}"),
        ("weights", weights),
        ("T", f"{run.model.sched.T}"),
        ("schedule", f"`{schedule['name']}`{betas}"),
        ("output", f"`{diffusion['output']}`"),
        ("variance", f"`{diffusion['variance']}`"),
    ]


def measured(run: Run, step: int) -> list[str]:
    """Returns the paragraphs on the bound and on the scores of samples, each with its command."""
    bounds = [read_json(path) for path in bound.record_paths(run, step)]
    scores = quality_file.read(run, step)
    parts = [bound_part(run, step, record) for record in bounds if record.keys() >= BOUND]
    return [
        *(parts or ["The variational bound: not measured."]),
        *(
            [scores_part(run, step, record) for record in scores if record.keys() >= SCORES]
            or ["Scores of samples: not measured."]
        ),
    ]


def read_json(path: epath.Path) -> dict[str, Any]:
    """Returns an object of a file in eval/; an empty one if the file is damaged."""
    try:
        return dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        return {}


def bound_part(run: Run, step: int, record: dict[str, Any]) -> str:
    """Returns the bound of a split with its parts, on how many images, and the command."""
    names = {"bits_per_dim": "bound", "rate": "rate", "distortion": "distortion"}
    rows = []
    for key, name in names.items():
        error = record.get("standard_error" if key == "bits_per_dim" else f"{key}_standard_error")
        rows.append((name, f"{record[key]:.3f}", number(error)))
    held_out = record["split"] == run.data.held_out
    command = evaluate(
        run,
        step,
        {"eval.images" if held_out else "eval.train_images": record["images"]}
        | {"eval.steps": record["steps"], "eval.seed": record["seed"]},
    )
    head = (
        f"The variational bound on {record['images']} images of `{record['split']}`, in bits per dimension"
        f" ({record['steps']} of {record['of_steps']} steps, seed {record['seed']}; the standard error is"
        " over images):"
    )
    return "\n\n".join([head, table(("", "bits/dim", "standard error"), rows), command])


def scores_part(run: Run, step: int, record: dict[str, Any]) -> str:
    """Returns the scores of samples, of how many and whose, and the command."""
    scores = record["scores"]
    rows = [
        (f"`{name}`", f"{value:.4g}", number(scores.get(f"{name}_std")))
        for name, value in scores.items()
        if not name.endswith("_std")
    ]
    head = (
        f"Scores of {record['samples']:,} samples ({record['sampler']}, seed {record['seed']}) in the feature"
        f" space `{record['space']}`; a name ends with the number of images and the split that they are"
        " compared with:"
    )
    if record.get("few_samples"):
        head = (
            f"{head[:-1]}. Frechet distances of so few samples compare only with those of as many:"
        )
    parts = [head, table(("", "value", "standard deviation"), rows)]
    if record["sampler"] == run.sample.chain.name:  # else its options are not known
        fields = {"eval.quality.samples": record["samples"], "eval.quality.space": record["space"]}
        sampler = run.config["sample"]
        fields |= {f"sample.{name}": sampler[name] for name in ("solver", "steps")}
        parts.append(evaluate(run, step, fields | {"sample.seed": record["seed"]}))
    return "\n\n".join(parts)


def evaluate(run: Run, step: int, fields: dict[str, Any]) -> str:
    """Returns the command that measures, as a block of shell."""
    raw = ["--weights=raw"] if run.prefix else []
    overrides = [f"--config.{name}={shlex.quote(f'{value}')}" for name, value in fields.items()]
    words = ["ddpm evaluate", f"runs/{run.directory.name}", f"--step={step}", *raw, *overrides]
    return f"```sh\n{' '.join(words)}\n```"


def usage(run: Run, id: str) -> str:
    """Returns how the model is loaded, in ddpm_jax and in diffusers."""
    return f"""\
```python
import ddpm_jax  # with the extra: pip install 'ddpm_jax[hub]'

images = ddpm_jax.load("hf:{id}").sample(16, seed=0)
```

```python
from diffusers import DDPMPipeline

images = DDPMPipeline.from_pretrained("{id}")(batch_size=16, num_inference_steps={run.model.sched.T}).images
```"""


def number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2g}"


def table(head: Row, rows: list[Row]) -> str:
    """Returns a table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
