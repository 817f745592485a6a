"""The fields of 'optimizer' and 'train'."""

from ddpm_jax.config.reference.entry import Choice, Field, Section

OPTIMIZER = Section(
    "optimizer",
    "Adam with a warm-up, and the running average of the parameters (EMA): the paper's Appendix B.",
    (
        Field(
            "optimizer.learning_rate", "The learning rate after the warm-up.", "a number, 0 or more"
        ),
        Field(
            "optimizer.warmup",
            "Steps in which the learning rate grows linearly from 0.",
            "an integer, 0 or more; `0` for no warm-up; `auto` for a twenty-fifth of `train.steps`, at most"
            " 5000",
        ),
        Field(
            "optimizer.b1",
            "The decay of Adam's average of the gradient.",
            "a number, 0 or more and below 1",
        ),
        Field(
            "optimizer.b2",
            "The decay of Adam's average of the squared gradient.",
            "a number, 0 or more and below 1",
        ),
        Field(
            "optimizer.eps",
            "Added to the root of that average before its bias is corrected, as TensorFlow does.",
            "a number, 0 or more",
        ),
        Field(
            "optimizer.ema_decay",
            "The decay per step of the EMA, which samples and measurements use. It starts from the"
            " initial parameters.",
            "a number, 0 or more and below 1; `auto` for an average over a twelfth of `train.steps`, at most"
            " 0.9999",
        ),
    ),
)

TRAIN = Section(
    "train",
    "How long training runs, and what it writes. Intervals are in training steps, and are counted from"
    " step 0.",
    (
        Field(
            "train.steps",
            "Steps in all, those before a resume included. Each is one batch and one update.",
            "an integer, 0 or more",
            changeable=True,
        ),
        Field(
            "train.batch_size",
            "Images of a step, over all devices.",
            "an integer, 1 or more; a multiple of the number of devices",
        ),
        Field(
            "train.clip",
            "The largest global norm of the gradient; a longer one is scaled down to it.",
            "a number above 0",
        ),
        Field(
            "train.clip_groups",
            "Equal parts of a batch whose gradients are clipped separately, then averaged. `1` clips the"
            " gradient of the whole batch; `8` does what the release did on the eight cores of a v3-8.",
            "an integer, 1 or more, that divides `train.batch_size`",
        ),
        Field(
            "train.label_dropout",
            "The fraction of labels that training hides, so that the network also learns to do without:"
            " classifier-free guidance, arXiv:2207.12598, needs it. The configs with labels have 0.1.",
            "a number, 0 or more and below 1; above 0 it needs `model.classes`",
        ),
        Field(
            "train.on_nonfinite",
            "What happens at a step whose loss or gradient is not finite.",
            choices=(
                Choice("stop", "The run fails, and the step is neither logged nor saved."),
                Choice("skip", "Its update is left out; ten such steps in a row end the run."),
            ),
            changeable=True,
        ),
        Field(
            "train.log_every",
            "Steps from one row of metrics.jsonl and of the log to the next. A row has the means since"
            " the last one, the learning rate and the speed. The first steps, 1, 2, 5, 10, 20, 50 and so on, have rows too.",
            "an integer, 1 or more",
            changeable=True,
        ),
        Field(
            "train.checkpoint_every",
            "Steps from one checkpoint to the next. The last step is saved too.",
            "an integer, 1 or more",
            changeable=True,
        ),
        Field(
            "train.checkpoint_minutes",
            "Minutes after a checkpoint at which the next one is saved, if `train.checkpoint_every` has not"
            " come before, by the first process's clock: so a slow machine loses little.",
            "a number, 0 or more; `0` turns it off",
            changeable=True,
        ),
        Field(
            "train.sample_every",
            "Steps from one sample grid, samples/<step>-grid.png, to the next. The last step draws one"
            " too.",
            "an integer, 0 or more; `0` for no grids; a classifier has none",
            changeable=True,
        ),
        Field(
            "train.keep",
            "How many of the newest checkpoints are kept.",
            "an integer, 1 or more",
        ),
        Field(
            "train.keep_every",
            "Checkpoints at multiples of this step are kept for good. It should be a multiple of"
            " `train.checkpoint_every`.",
            "an integer, 0 or more; `0` for none",
            changeable=True,
        ),
        Field(
            "train.keep_best",
            "Which checkpoint is kept besides. (`--follow` keeps the best by FID; see `eval.best`.)",
            choices=(
                Choice("", "None."),
                Choice(
                    "loss",
                    "The one with the lowest training loss, as last logged when it was saved.",
                ),
            ),
        ),
        Field(
            "train.tracker",
            "A service that is sent the same rows and the sample grids: docs/measuring.md.",
            choices=(
                Choice("", "None."),
                Choice("wandb", "Weights & Biases; needs the extra `wandb`."),
            ),
            changeable=True,
        ),
        Field(
            "train.grid.solver",
            "The solver of the sample grids.",
            "a value of `sample.solver`",
        ),
        Field(
            "train.grid.steps",
            "Their steps, as `sample.steps`.",
            "an integer, 1 to T; `auto` for T, but at most 20 with `ddim`, `dpm_solver`, `heun` or `ode`",
        ),
        Field(
            "train.grid.eta",
            "As `sample.eta`.",
            "a number, 0 to 1; above 0 only with `ddim`",
        ),
        Field(
            "train.grid.count",
            "Images of a grid. Their noise depends on `sample.seed` and is the same at every step.",
            "an integer, 1 or more",
        ),
    ),
)
