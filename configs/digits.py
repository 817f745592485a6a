"""8x8 handwritten digits with 17 grey levels, trained in minutes on a laptop:

    python -m ddpm_jax.main --config=configs/digits.py

2400 steps of a 275,381-parameter network take about four minutes on two CPU cores. Expect about
2.42 bits/dim on the 360 held-out digits (seed 0) and legible digits in the sample grid. The paper has
no such run: T = 100 with ten times its beta reaches the same noise in a tenth of the steps.

"auto" becomes a value that fits the run, here all T steps; any number may stand in its place.
--help=config explains every field.
"""

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,
            "data": {
                "name": "digits",
                "data_dir": "",  # of prepared data sets; "" is TFDS's own
                "image_size": 8,
                "split": "train",
                "held_out": "test",  # the split to measure on
                "flip": False,
            },
            "model": {
                "channels": 20,  # of the first level
                "multipliers": (1, 2),  # of the channels, one for each level
                "blocks": 1,  # at each level
                "attention": (4,),  # at these heights
                "dropout": 0.0,
                "dtype": "auto",  # bfloat16 on accelerators, float32 on CPUs
                "classes": 0,  # of labels; 0 is a network without them
            },
            "diffusion": {
                "schedule": {"name": "linear", "T": 100, "beta_1": 1e-3, "beta_T": 0.2},
                "output": "eps",
                "variance": "fixed_large",
                "loss": "simple",
                "timesteps": "uniform",
                "log_cdf": "normal",  # the decoder's, for the losses vlb and hybrid
            },
            "optimizer": {
                "learning_rate": 4e-3,
                "warmup": 100,  # steps
                "b1": 0.9,
                "b2": 0.999,
                "eps": 1e-8,
                "ema_decay": 0.995,
            },
            "train": {
                "steps": 2400,
                "batch_size": 64,
                "clip": 1.0,  # the gradient's largest norm
                "clip_groups": 1,  # parts of a batch that are clipped separately
                "label_dropout": 0.0,  # the fraction of labels hidden, for guidance
                "on_nonfinite": "stop",  # or skip such a step
                "log_every": 100,
                "checkpoint_every": 600,
                "checkpoint_minutes": 0.0,  # since the last one; 0 is off
                "sample_every": 1200,
                "keep": 2,  # newest checkpoints
                "keep_every": 0,  # steps whose checkpoints are kept for good; 0 is off
                "keep_best": "",  # "loss" also keeps the checkpoint with the lowest
                "tracker": "",  # "wandb" also sends the numbers to Weights & Biases
                "grid": {
                    "solver": "ancestral",
                    "steps": FieldReference("auto", object),
                    "eta": 0.0,
                    "count": 64,
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
                "count": 64,
                "batch_size": 64,
                "seed": 0,
                "guidance": 0.0,  # the scale w; 0 turns it off
                "label": -1,  # -1 is all classes in turn
                "classifier": "",  # the workdir of one that guides the samples
            },
            "eval": {
                "images": 360,  # held-out images whose bound is computed
                "train_images": 0,  # training images, likewise
                "steps": FieldReference("auto", object),  # terms of the bound
                "batch_size": 120,
                "seed": 0,
                "best": "",  # what --follow chooses by; "" is FID, else the bound
                "quality": {
                    "samples": 360,  # whose quality is measured
                    "path": "",  # images from elsewhere, to measure instead
                    "space": "classifier",
                    "inception": "",  # the file of Inception's weights
                    "reference": "",  # a file with the training set's statistics
                    "metrics": (),  # your own, beside ours: ("my_module:METRIC",)
                },
            },
        }
    )
