"""The paper's CIFAR-10 run, L_simple, Table 1.

    python -m ddpm_jax.main --config=configs/cifar10.py --workdir=gs://bucket/cifar10

The paper: TPU v3-8, 800,000 steps at 21 steps/s, 10.6 hours; FID 3.17 against the training set and
5.24 against the test set, IS 9.46 +- 0.11, at most 3.75 bits/dim on the test set. To draw 50,000 samples:

    python -m ddpm_jax.main --workdir=gs://bucket/cifar10 --mode=sample --config.sample.count=50000

To compute the bound on the whole test set, with all 1000 terms:

    python -m ddpm_jax.main --workdir=gs://bucket/cifar10 --mode=evaluate \
        --config.eval.images=10000 --config.eval.steps=1000

'train.clip_groups' = 8 clips the gradient as on the v3-8, where each of the eight cores clipped its own.
"auto" becomes a value that fits the run, here all T steps; any number may stand in its place.
--help=config explains every field.
"""

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "data": {
                "name": "cifar10",
                "data_dir": "",  # of prepared data sets; "" is TFDS's own
                "image_size": 32,
                "split": "train",
                "held_out": "test",  # the split to measure on
                "flip": True,
            },
            "model": {
                "channels": 128,  # of the first level
                "multipliers": (1, 2, 2, 2),  # of the channels, one for each level
                "blocks": 2,  # at each level
                "attention": (16,),  # at these heights
                "dropout": 0.1,
                "dtype": "auto",  # bfloat16 on accelerators, float32 on CPUs
                "classes": 0,  # of labels; 0 is a network without them
            },
            "diffusion": {
                "schedule": {"name": "linear", "T": 1000, "beta_1": 1e-4, "beta_T": 0.02},
                "output": "eps",
                "variance": "fixed_large",
                "loss": "simple",
                "timesteps": "uniform",
                "log_cdf": "tanh",  # the decoder's, for the losses vlb and hybrid
            },
            "optimizer": {
                "learning_rate": 2e-4,
                "warmup": 5000,  # steps
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "ema_decay": 0.9999,
            },
            "train": {
                "steps": 800_000,
                "batch_size": 128,
                "clip": 1.0,  # the gradient's largest norm
                "clip_groups": 1,  # parts of a batch that are clipped separately
                "label_dropout": 0.0,  # the fraction of labels hidden, for guidance
                "on_nonfinite": "stop",  # or skip such a step
                "log_every": 100,
                "checkpoint_every": 5000,
                "checkpoint_minutes": 0.0,  # since the last one; 0 is off
                "sample_every": 5000,
                "keep": 2,  # newest checkpoints
                "keep_every": 50_000,  # steps whose checkpoints are kept for good
                "keep_best": "",  # "loss" also keeps the checkpoint with the lowest
                "tracker": "",  # "wandb" also sends the numbers to Weights & Biases
                # "auto" is 20 steps of DDIM, so that a grid takes seconds; --mode=sample runs all T.
                "grid": {
                    "solver": "ddim",
                    "steps": FieldReference("auto", object),
                    "eta": 0.0,
                    "count": 16,
                },
            },
            # 0 is all devices; at the heights in 'remat', activations are computed twice, to save memory.
            "parallel": {"devices": 0, "params": "replicated", "accumulation": 1, "remat": ()},
            "sample": {
                "solver": "ancestral",
                "steps": FieldReference("auto", object),
                "eta": 0.0,  # of ddim; 1 is ancestral sampling
                "spacing": "linear",
                # The first two are predictor_corrector's, the others annealed_langevin's.
                "langevin": {"corrections": 1, "snr": 0.16, "updates": 100, "step_size": 0.2},
                "count": 256,
                "batch_size": 256,
                "seed": 0,
                "guidance": 0.0,  # the scale w; 0 turns it off
                "label": -1,  # -1 is all classes in turn
                "classifier": "",  # the workdir of one that guides the samples
            },
            "eval": {
                "images": 0,  # held-out images whose bound is computed
                "train_images": 0,  # training images, likewise
                "steps": FieldReference("auto", object),  # terms of the bound
                "batch_size": 256,
                "seed": 0,
                "best": "",  # what --follow chooses by; "" is FID, else the bound
                "quality": {
                    "samples": 0,  # whose quality is measured
                    "path": "",  # images from elsewhere, to measure instead
                    "space": "inception",
                    "inception": "",  # the file of Inception's weights
                    "reference": "",  # a file with the training set's statistics
                    "metrics": (),  # your own, beside ours: ("my_module:METRIC",)
                },
            },
        }
    )
