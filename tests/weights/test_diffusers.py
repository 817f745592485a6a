"""diffusers itself, where it is installed: the same network, weights that go in and out, the same steps."""

import copy
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath
from safetensors.numpy import load_file

from ddpm_jax import diffusion
from ddpm_jax.parameterization import Denoised
from ddpm_jax.run import model, state
from ddpm_jax.samplers import steps
from ddpm_jax.weights import exporting, imported_config, importing
from ddpm_jax.weights import source as weights_source

pytestmark = pytest.mark.slow

COMMON = {  # config.json of google/ddpm-cifar10-32 and google/ddpm-celebahq-256
    "act_fn": "silu",
    "attention_head_dim": None,
    "center_input_sample": False,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-6,
    "norm_num_groups": 32,
    "out_channels": 3,
    "time_embedding_type": "positional",
}
PLAIN, ATTN = "DownBlock2D", "AttnDownBlock2D"
GOOGLE = {
    "ddpm-cifar10-32": (32, [128, 256, 256, 256], [PLAIN, ATTN, PLAIN, PLAIN], "fixed_large"),
    "ddpm-celebahq-256": (
        256,
        [128, 128, 256, 256, 512, 512],
        [*4 * [PLAIN], ATTN, PLAIN],
        "fixed_small",
    ),
}


@pytest.fixture(scope="module", params=GOOGLE)
def theirs(request, tmp_path_factory):
    """A pipeline of random weights, norms' too, in one of google's configs, and its folder."""
    torch = pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    size, widths, down, variance = GOOGLE[request.param]
    up = [each.replace("Down", "Up") for each in reversed(down)]
    blocks = {"block_out_channels": widths, "down_block_types": down, "up_block_types": up}
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(**COMMON, **blocks, sample_size=size)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    scheduler = diffusers.DDPMScheduler(variance_type=variance)
    pipeline = diffusers.DDPMPipeline(network, scheduler)
    folder = tmp_path_factory.mktemp("hub") / request.param
    pipeline.save_pretrained(folder)
    return pipeline, folder


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory):
    """The run that it becomes."""
    source = weights_source.read(str(theirs[1]), "auto")
    config = imported_config.build_config(weights_source.read(str(theirs[1]), "auto"), "")
    config.parallel.devices = 1
    run = importing.build_run(config, epath.Path(tmp_path_factory.mktemp("run")), source)
    importing.check_import(run, source)
    importing.import_weights(run, source)
    return run


def test_the_networks_agree(theirs, ours):
    """Against torch itself."""
    import torch

    pipeline, _ = theirs
    size = ours.model.shape[0]
    x = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    predict = jax.jit(lambda params, x, t: model.network(ours.model, params)(x, t))
    _, params = state.read_ema(ours)
    for t in (1, 1000):
        with torch.no_grad():
            wanted = pipeline.unet(torch.tensor(x), t - 1).sample.numpy().transpose(0, 2, 3, 1)
        found = predict(params, jnp.array(x.transpose(0, 2, 3, 1)), jnp.array([t]))
        assert np.abs(found - wanted).max() < 1e-4 * np.abs(wanted).max()


def test_what_goes_out_is_what_came_in(theirs, ours, tmp_path):
    """Through diffusers' own reader."""
    pipeline, folder = theirs
    target = tmp_path / "out"
    exporting.check_export(ours, str(target), "diffusers")
    exporting.export(ours, str(target), "diffusers")
    name = "unet/diffusion_pytorch_model.safetensors"
    before, after = load_file(folder / name), load_file(target / name)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)

    loaded = type(pipeline).from_pretrained(target)
    for said, wanted in ((loaded.unet, pipeline.unet), (loaded.scheduler, pipeline.scheduler)):
        leave = {"_name_or_path", "_use_default_values", "_diffusers_version", "dropout"}
        assert {k: v for k, v in said.config.items() if k not in leave} == {
            k: v for k, v in wanted.config.items() if k not in leave
        }
    if ours.model.shape[0] == 32:
        images = loaded(batch_size=1, num_inference_steps=2, output_type="np").images
        assert images.shape == (1, 32, 32, 3) and np.isfinite(images).all()


def test_the_hubs_flat_folder_and_old_names_are_the_same(theirs, ours, tmp_path):
    """As google's repositories are: config.json and a .bin at the top, attention named as in 2022."""
    import torch

    _, folder = theirs
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    for new, name in old.items():
        tensors = {key.replace(f".{new}.", f".{name}."): tensors[key] for key in tensors}
    shutil.copy(folder / "unet" / "config.json", tmp_path)
    shutil.copy(folder / "scheduler" / "scheduler_config.json", tmp_path)
    torch.save(
        {key: torch.tensor(tensors[key]) for key in tensors},
        tmp_path / "diffusion_pytorch_model.bin",
    )
    source = weights_source.read(str(tmp_path), "diffusers")
    again = importing.read_weights(source, state.abstract(ours).params).params
    assert jax.tree.all(jax.tree.map(np.array_equal, again, state.read_ema(ours)[1]))


@pytest.mark.parametrize(
    "t, s, tables",
    [(1000, 999, "float32"), (500, 499, "float32"), (2, 1, "float64"), (1, 0, "float32")],
)
def test_an_ancestral_step_is_ddpm_schedulers(theirs, ours, t, s, tables):
    """At t = 2 its float32 tables, where 1 - alpha_bar is 2e-4, are 5e-5 off; as float64 they are not."""
    x_t, eps, noise = drawn(t)
    model, times = ours.model, (jnp.array([t, t]), jnp.array([s, s]))
    found = steps.ancestral(model.variance)(
        model.sched, x_t, denoised(model, x_t, eps, t), *times, noise
    )

    with pytest.MonkeyPatch.context() as patch:
        drawn_there = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
        patch.setattr(drawn_there, lambda *_, **__: to_torch(noise))
        scheduler = scheduler_of(theirs[0], tables)
        wanted = scheduler.step(to_torch(eps), t - 1, to_torch(x_t)).prev_sample
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    "t, s, eta", [(1000, 980, 0.0), (500, 480, 0.0), (500, 480, 0.7), (20, 0, 0.0)]
)
def test_a_ddim_step_is_ddim_schedulers(theirs, ours, t, s, eta):
    """Against diffusers itself."""
    from diffusers import DDIMScheduler

    x_t, eps, noise = drawn(t)
    model, times = ours.model, (jnp.array([t, t]), jnp.array([s, s]))
    found = steps.ddim(eta)(model.sched, x_t, denoised(model, x_t, eps, t), *times, noise)

    scheduler = DDIMScheduler.from_config(theirs[0].scheduler.config)
    scheduler.set_timesteps(50)
    said = {"eta": eta, "use_clipped_model_output": True, "variance_noise": to_torch(noise)}
    wanted = scheduler.step(to_torch(eps), t - 1, to_torch(x_t), **said).prev_sample
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def scheduler_of(pipeline, tables: str):
    import torch

    scheduler = copy.deepcopy(pipeline.scheduler)
    if tables == "float64":
        scheduler.betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
        scheduler.alphas = 1.0 - scheduler.betas
        scheduler.alphas_cumprod = torch.cumprod(scheduler.alphas, 0)
    return scheduler


def drawn(seed: int):
    return jnp.array(np.random.default_rng(seed).normal(size=(3, 2, 8, 8, 3)), jnp.float32)


def to_torch(array):
    import torch

    return torch.tensor(np.asarray(array))


def denoised(model, x_t, eps, t) -> Denoised:
    """x_0-hat, clipped, of a network that says 'eps'."""
    x_0 = diffusion.x_0_from_eps(model.sched, x_t, eps, jnp.full(len(x_t), t))
    return Denoised(jnp.clip(x_0, -1.0, 1.0))
