"""Trained: a model to sample from, to look into and to measure with, in numpy arrays.

Images are uint8, 0..255, [n, h, w, c]. x_t and latents are float32, with data in [-1, 1]. Image i depends on
the seed and i alone, as on the command line. A keyword with the name of a field replaces its value.
"""

import copy
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from ddpm_jax.api import bits, drawing, numbers, pictures, settings
from ddpm_jax.api import labels as image_labels
from ddpm_jax.api.drawing import Callback, Frames
from ddpm_jax.api.labels import Label
from ddpm_jax.api.settings import Guidance, Own, Setting
from ddpm_jax.codec.model import Codec
from ddpm_jax.datasets import pixels
from ddpm_jax.diffusion import Schedule
from ddpm_jax.parameterization import Denoised
from ddpm_jax.run import model as models
from ddpm_jax.run.run import Run
from ddpm_jax.samplers import slerp

Bytes = UInt8[np.ndarray, "*n h w c"]
Floats = Float32[np.ndarray, "n h w c"]


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """A trained model: a run, and the weights of one checkpoint.

    Every method raises ValueError for arguments that do not fit the model.
    """

    run: Run
    step: int  # of training
    params: Any  # a pytree, on the devices
    kept: dict[Hashable, Any] = field(default_factory=dict)  # compiled, by what it depends on

    def __repr__(self) -> str:
        parameters = sum(leaf.size for leaf in jax.tree.leaves(self.params))
        shape = "x".join(map(str, self.run.model.shape))
        return (
            f"Trained({self.run.name!r}, step {self.step}, {self.run.weights},"
            f" {parameters:,} parameters, {shape} images)"
        )

    @property
    def config(self) -> dict[str, Any]:
        """A copy of the run's config, as config.json stores it."""
        return copy.deepcopy(self.run.config)

    @property
    def schedule(self) -> Schedule:
        """The noise schedule: beta and alpha_bar over t = 0..T."""
        return self.run.model.sched

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the network's classes; () without classes, or without names."""
        return self.run.labels or ()

    @property
    def denoiser(self) -> Callable[[Any, Any], Denoised]:
        """(x_t, t) -> Denoised with x_0-hat, clipped, for samplers of your own; without a label.

        Raises ValueError for a network that needs a label: see 'denoiser_of'.
        """
        return drawing.unconditional(self.run, self.params)

    def denoiser_of(self, label: Label, guidance: float = 0.0) -> Callable[[Any, Any], Denoised]:
        """Returns the denoiser of a class, with classifier-free guidance of a scale; 0 for none."""
        setting = self.setting(guidance=guidance or None)
        labels = image_labels.require(setting.run, setting.chain, label, 1)
        if labels is None:
            raise ValueError("this network takes no labels; use 'denoiser'")
        denoise = models.denoiser(self.run.model, self.params, jnp.asarray(labels), guidance)
        return numbers.take_numbers(denoise)

    def x_T(self, count: Any, seed: Any = 0) -> Floats:
        """Returns the noise from which sample(count, seed) starts, float32 [count, h, w, c]."""
        return drawing.walk(self.setting(), self.params, (0,), count=count, seed=seed)[0]

    def sample(
        self,
        count: Any = None,
        seed: Any = 0,
        *,
        label: Label | None = None,
        solver: str | None = None,
        steps: Any = None,
        eta: float | None = None,
        spacing: str | None = None,
        guidance: float | Guidance | None = None,
        classifier: str | None = None,
        batch_size: int | None = None,
        x_T: Any = None,
        sampler: Own = None,
        callback: Callback | None = None,
    ) -> Bytes:
        """Draws images as --mode=sample does, uint8 [count, h, w, c].

        'label' is a number or a name, for all images or one for each. 'guidance' is a scale, or a function
        of your own from Denoiser to Denoiser. 'x_T' is noise to start from. 'sampler' is your own: a Step
        or what else samplers/own.py takes. 'callback' is called with t and x_t after each step.
        """
        start = None if x_T is None else pictures.floats(self.run.model, x_T, "x_T")
        if count is None:
            count = self.run.sample.count if start is None else len(start)
        fields = {"solver": solver, "steps": steps, "eta": eta, "spacing": spacing}
        fields |= {"classifier": classifier, "batch_size": batch_size}
        setting = self.setting(sampler, guidance, **fields)
        end = (0, setting.program.steps)
        options = {"label": label, "x_t": start, "callback": callback}
        seen = drawing.walk(setting, self.params, end, count=count, seed=seed, **options)
        return pixels.quantize(seen[-1], self.run.model.levels)

    def noise(self, x_0: Any, t: Any, seed: Any = 0) -> Floats:
        """Draws x_t ~ q(x_t | x_0) of images, at one t or one for each: float32 [n, h, w, c]. Eq. 4."""
        return drawing.diffuse(self.run, pictures.normalize(self.run.model, x_0), t, seed)

    def denoise(
        self,
        x_t: Any,
        t: Any = None,
        seed: Any = 0,
        *,
        frames: Any = 10,
        label: Label | None = None,
        sampler: Own = None,
        guidance: float | Guidance | None = None,
        **fields: Any,
    ) -> Frames:
        """Runs the reverse process from x_t at time t, by default T, to x_0; returns it at 'frames' times.

        'fields' and the other keywords are those of 'sample'. From x_T(count, seed) and with the same seed
        it ends in the images of sample(count, seed).
        """
        start = pictures.floats(self.run.model, x_t, "x_t")
        setting = self.setting(sampler, guidance, **fields)
        marks = drawing.find_marks(setting, t, frames)
        options = {"label": label, "x_t": start, "observe": drawing.observe_both}
        seen = drawing.walk(setting, self.params, marks, count=len(start), seed=seed, **options)
        return Frames(t=setting.program.times[list(marks)], x_t=seen[:, :, 0], x_0=seen[:, :, 1])

    def encode(self, images: Any, steps: int | None = None, label: Label | None = None) -> Floats:
        """Returns the latents x_T of images by DDIM, deterministically: float32 [n, h, w, c].

        Song et al. 2021 (arXiv:2010.02502), Sec. 4.3. 'steps' is T by default; fewer are faster, and
        'decode' restores the images less exactly. A network trained with label dropout needs no label.
        """
        x_0 = pictures.normalize(self.run.model, images)
        return self.follow_ode("encode", x_0, steps, label)

    def decode(self, x_T: Any, steps: int | None = None, label: Label | None = None) -> Bytes:
        """Returns the images of latents by DDIM with eta = 0, uint8 [n, h, w, c]; see 'encode'."""
        latents = pictures.floats(self.run.model, x_T, "x_T")
        x_0 = self.follow_ode("decode", latents, steps, label)
        return pixels.quantize(x_0, self.run.model.levels)

    def interpolate(
        self, a: Any, b: Any, count: int = 9, steps: int | None = None, label: Label | None = None
    ) -> Bytes:
        """Returns 'count' images on the way from each image of 'a' to that of 'b', uint8 [count, n, h, w, c].

        Their latents are mixed along a great circle: Song et al. 2021, Eq. 67. Single images [h, w, c] give
        [count, h, w, c].
        """
        shape = self.run.model.shape
        pair = [pictures.normalize(self.run.model, images) for images in (a, b)]
        if len(pair[0]) != len(pair[1]):
            raise ValueError(
                f"a has {len(pair[0])} images, b {len(pair[1])}; both must have the same number"
            )
        if count < 2:
            raise ValueError(f"count is {count}; it must be at least 2, for both ends")
        one, other = (self.follow_ode("encode", x_0, steps, label) for x_0 in pair)
        latents = slerp.slerp(one, other, np.linspace(0.0, 1.0, count, dtype=np.float32))
        repeated = None if label is None else image_labels.repeat(label, count)
        images = self.decode(latents.reshape(-1, *shape), steps, repeated)
        return images if np.shape(a) == shape else images.reshape(count, -1, *shape)

    def bits_per_dim(
        self, images: Any, seed: int = 0, steps: int | None = None, label: Label | None = None
    ) -> Float64[np.ndarray, " n"]:
        """Returns the variational bound of each image in bits/dim, as --mode=evaluate measures it. Eq. 5.

        'steps' of the T terms are drawn, by default eval.steps. A network with classes needs a label.
        """
        run = self.run
        levels = pictures.grey_levels(run.model, images)
        count = len(run.eval.strata.first) if steps is None else steps
        measure = self.keep(("bound", count), lambda: bits.compile_bound(run, count))
        labels = image_labels.require(run, run.sample.chain, label, len(levels))
        return bits.bits_per_dim(run, self.params, measure, levels, labels, seed)

    def compress(self, images: Any) -> bytes:
        """Returns the content of a .djx file for one image, of a .djxa archive for several.

        Raises ValueError before --mode=calibrate has measured this checkpoint.
        """
        return bits.compress(pictures.grey_levels(self.run.model, images), self.codec())

    def decompress(self, data: bytes) -> Bytes:
        """Returns the images of a .djx or .djxa file, uint8 [n, h, w, c]."""
        model = self.run.model
        return pixels.stretch(bits.decompress(data, self.codec()), model.levels)

    def codec(self) -> Codec:
        """Returns the codec that 'compress' and 'decompress' use."""
        return self.keep("codec", lambda: bits.open_codec(self.run, self.step, self.params))

    def setting(
        self,
        sampler: Own = None,
        guidance: float | Guidance | None = None,
        **fields: Any,
    ) -> Setting:
        """Returns a compiled sampler, kept for the next call with the same arguments."""
        own, scale = (guidance, None) if callable(guidance) else (None, guidance)
        settings.check_names(fields)
        fields = {name: numbers.plain(each) for name, each in fields.items() if each is not None}
        fields |= {} if scale is None else {"guidance": float(scale)}
        key = "sampler", frozenset(fields.items()), sampler, own
        return self.keep(key, lambda: settings.configure(self.run, fields, sampler, own))

    def follow_ode(
        self, direction: str, x: Floats, steps: int | None, label: Label | None
    ) -> Floats:
        """Follows DDIM's ODE to latents or back. 'direction' is "encode" or "decode"."""
        count = self.schedule.T if steps is None else steps
        make = settings.encoder if direction == "encode" else settings.decoder
        setting = self.keep((direction, count), lambda: make(self.run, count))
        image_labels.require(setting.run, setting.chain, label, len(x))
        marks = (0, setting.program.steps)
        options = {"count": len(x), "seed": 0, "label": label, "x_t": x}
        return drawing.walk(setting, self.params, marks, **options)[-1]

    def keep(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Returns what was made for a key, so that nothing is compiled twice."""
        if key not in self.kept:
            self.kept[key] = make()
        return self.kept[key]
