"""The sections of a run's report, each read from the run's files; one without content is left out."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from clu import parameter_overview

from ddpm_jax.evaluation import results
from ddpm_jax.evaluation.results import Curve, Measurement
from ddpm_jax.report import chart, page, pictures
from ddpm_jax.run import record as records
from ddpm_jax.run import state
from ddpm_jax.run.run import Run
from ddpm_jax.runtime import console

CURVES = {"loss": "loss", "grad_norm": "norm of the gradient", "learning_rate": "learning rate"}
FIELDS = {  # facts of a measurement, and the fields that a command must set to repeat it
    "steps": "eval.steps",
    "samples": "eval.quality.samples",
    "samples_from": "eval.quality.path",
    "space": "eval.quality.space",
}


def heading(run: Run, step: int) -> str:
    """The run's name, and what was trained in two lines."""
    diffusion, model = run.config["diffusion"], run.model
    shape = "x".join(map(str, model.shape[:2]))
    colour = {1: "gray", 3: "colour"}.get(model.shape[2], f"{model.shape[2]}-channel")
    kind = "A classifier of noisy" if model.classifies else "A diffusion model of"
    weights = "" if run.weights == "ema" else ", weights without averaging"
    what = f"{kind} {shape} {colour} images: {run.data.name}, trained to step {step:,}{weights}."
    how = (
        f"T = {model.sched.T:,}, {diffusion['schedule']['name']} schedule, output"
        f" {diffusion['output']}, loss {diffusion['loss']}, seed {run.seed}."
    )
    lines = "".join(page.paragraph(line, "lead") for line in (what, how))
    return f"<header><h1>{escape(run.directory.name or run.name)}</h1>{lines}</header>\n"


def numbers_at_a_glance(run: Run, step: int, found: Sequence[Measurement]) -> str:
    """The newest bound and first score, the size of the network, steps and hours."""
    now: dict[str, Measurement] = {}
    for each in found:
        if each.step == step:
            now.setdefault(each.name, each)
    values = []
    bounds = [name for name in now if name.startswith(f"{results.BOUND}_")]
    others = [name for name in now if name not in bounds and not name.startswith("floor_")]
    best = [name for name in others if name.startswith(("fid_", "frechet_", "accuracy_"))] or others
    for name in (*bounds[:1], *best[:1]):
        title, _, rest = results.title(name).partition(", ")
        value, _, error = chart.with_error(now[name].value, now[name].error).partition(" ± ")
        values.append((title, value, f"± {error}, {rest}" if error else rest))
    if not values:
        values.append(("bound and scores", "not measured", f"ddpm evaluate {run.directory}"))
    count = parameter_overview.count_parameters(state.abstract(run).params)
    batch = run.train.batch_size
    values += [
        ("parameters", f"{count:,}", "weights of the network"),
        ("steps", f"{step:,}", f"{batch} images each; {step * batch:,} in all"),
    ]
    seconds = training_seconds(results.training_curves(run.directory))
    if seconds:
        device = (records.read(run.directory) or {}).get("device", "")
        values.append(
            ("training", console.format_duration(seconds), f"at the logged speed, on {device}")
        )
    return page.cards(values)


def training_seconds(curves: Mapping[str, Curve]) -> float:
    """Returns the time that the logged steps took at their logged speed, without saving and measuring."""
    rate = curves.get("steps_per_second")
    if rate is None:
        return 0.0
    before = [0, *rate.steps]
    pairs = zip(rate.steps, before, rate.values, strict=False)
    return sum((step - last) / value for step, last, value in pairs if value > 0)


def caution_list(said: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(each)}</li>" for each in said)
    return f'<ul class="cautions" aria-label="warnings">{items}</ul>\n' if said else ""


def samples(run: Run) -> str:
    """The grids of training with a slider, real images beside them, and the film."""
    frames = pictures.training_grids(run.directory)
    parts = (
        [pictures.slider(frames, "samples during training, from the same noise")] if frames else []
    )
    real = pictures.small(run.directory / "samples" / "training-images.png")
    if real:
        tag = real.tag(f"images of {run.data.name} as the network is shown them")
        parts.append(
            page.figure(tag, "training images, cropped and resized as they are trained on")
        )
    films = pictures.steps_of(run.directory / "figures", f"{run.prefix}film.webp")
    film = pictures.whole(films[max(films)]) if films else None
    if film:
        caption = (
            f"from noise to image at step {max(films):,}: x_t, and the network's prediction of x_0"
        )
        parts.append(page.figure(film.tag("animation of noise that becomes images"), caption))
    return page.section("Samples", f'<div class="pair">{"".join(parts)}</div>' if parts else "")


def curves(run: Run, training: Mapping[str, Curve], found: Sequence[Measurement]) -> str:
    """Training's curves, and every number that was measured at more than one step."""
    charts = [
        chart.line_chart(title, [chart.Series("", training[name].steps, training[name].values)])
        for name, title in CURVES.items()
        if name in training
    ]
    for name, curve in results.measured_curves(found).items():
        if len(curve.steps) > 1:
            line = chart.Series("", curve.steps, curve.values, curve.errors, marked=True)
            charts.append(chart.line_chart(results.title(name), [line]))
    return page.section(
        "Curves", f'<div class="pair">{"".join(charts)}</div>' if any(charts) else ""
    )


def numbers(run: Run, found: Sequence[Measurement]) -> str:
    """What was measured at the last step that has numbers: a table and its command for each way of measuring."""
    if not found:
        return page.section(
            "Numbers", page.paragraph("not measured"), page.commands([evaluation(run)])
        )
    last = [each for each in found if each.step == found[-1].step]
    note = f"At step {last[0].step:,}. A bound has its standard error over images, a score its deviation."
    parts = [page.paragraph(note, "note")]
    for words in dict.fromkeys(map(way, last)):
        group = [each for each in last if way(each) == words]
        rows = [
            (escape(results.title(each.name)), chart.with_error(each.value, each.error))
            for each in group
        ]
        parts += [page.table((words, ""), rows), page.commands([evaluation(run, group[0])])]
    return page.section("Numbers", *parts)


def way(measurement: Measurement) -> str:
    """Returns how a number was measured, in words."""
    how = measurement.how
    parts = []
    if "images" in how:
        parts.append(f"{how['images']:,} images of {how.get('split', 'a file')}")
    if "steps" in how:
        parts.append(f"{how['steps']:,} of the steps t")
    if "samples" in how:
        parts.append(
            f"{how['samples']:,} samples of {how.get('sampler') or how.get('samples_from')}"
        )
    if "seed" in how:
        parts.append(f"seed {how['seed']}")
    return ", ".join(parts)


def evaluation(run: Run, measurement: Measurement | None = None) -> str:
    """Returns the command that measures a number again."""
    words, flat = [f"ddpm evaluate {run.directory}"], records.flatten(run.config)
    if run.weights != "ema":
        words.append(f"--weights={run.weights}")
    how = measurement.how if measurement else {}
    fields = FIELDS | {"seed": "sample.seed" if "samples" in how else "eval.seed"}
    for fact, value in how.items():
        field = fields.get(fact, "")
        if field in flat and flat[field] != value:
            words.append(f"--config.{field}={value}")
    return " ".join(words)


def neighbours(run: Run, copies: Mapping[str, Any]) -> str:
    """The figure of nearest training images, and the share of near copies."""
    found = pictures.steps_of(run.directory / "figures", f"{run.prefix}nearest.png")
    step = max(found, default=0)
    sheet = pictures.small(found[step]) if found else None
    if sheet is None:
        return ""
    tag = sheet.tag("samples, each beside the training images nearest to it", "sheet")
    words = f"Samples of step {step:,}, each beside the training images that are nearest in pixels."
    told = []
    if copies:
        told.append(
            f"Of {copies['images']:,} samples {100 * copies['share']:.3g} % are near copies: nearer to one"
            f" training image than {copies['threshold']:.2g} times the distance to the next different one."
        )
        if copies.get("held_out_images"):
            told.append(
                f"Of {copies['held_out_images']:,} held-out images, which the network has not seen,"
                f" {100 * copies['held_out_share']:.3g} % are."
            )
    return page.section(
        "Nearest training images", page.paragraph(words), *map(page.paragraph, told), tag
    )


def reproduction(run: Run) -> str:
    """The commands of the run, its config and the versions of its packages."""
    lines = [
        f"ddpm sample {run.directory}",
        f"ddpm evaluate {run.directory}",
        f"ddpm figures {run.directory}",
        f"ddpm report {run.directory}",
    ]
    record = records.read(run.directory) or {}
    packages = ", ".join(
        f"{name} {version}" for name, version in record.get("packages", {}).items()
    )
    fields = records.flatten(run.config)
    rows = [(page.code(name), escape(f"{value}")) for name, value in fields.items()]
    config = f"<details><summary>all {len(rows)} fields of the config</summary>{page.table(('field', 'value'), rows)}</details>"
    return page.section("The run", page.commands(lines), page.paragraph(packages, "note"), config)
