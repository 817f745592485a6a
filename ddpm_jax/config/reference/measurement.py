"""The fields of 'sample' and 'eval'."""

from ddpm_jax.config.reference.data import SEED_RANGE
from ddpm_jax.config.reference.entry import Choice, Field, Section, changeable

BATCH = "an integer, 1 or more; a multiple of the number of devices"

SOLVERS = (
    Choice("ancestral", "Draws each x_s from p(x_s | x_t): Algorithm 2 of arXiv:2006.11239."),
    Choice("ddim", "Deterministic with eta 0: arXiv:2010.02502. 20 to 100 steps are enough."),
    Choice(
        "dpm_solver", "DPM-Solver++(2M), second order: arXiv:2211.01095. 10 to 50 steps are enough."
    ),
    Choice(
        "heun",
        "Heun's method at Karras' times, with two network evaluations a step: arXiv:2206.00364. 10 to 50"
        " steps are enough.",
    ),
    Choice(
        "ode",
        "The probability-flow ODE by an adaptive solver, image by image, in as many steps as it needs:"
        " arXiv:2011.13456, Eq. 13. Takes no labels.",
    ),
    Choice("euler_maruyama", "Euler-Maruyama steps of the reverse SDE: arXiv:2011.13456, Eq. 6."),
    Choice(
        "predictor_corrector",
        "Steps of the reverse SDE, each followed by Langevin updates: arXiv:2011.13456, Algorithms 1 to 5.",
    ),
    Choice(
        "annealed_langevin",
        "NCSN's Langevin dynamics at a sequence of noise levels: arXiv:1907.05600, Algorithm 1.",
    ),
)

SAMPLE = Section(
    "sample",
    "The samples that `--mode=sample` draws, and that measurements, figures and exports use.",
    changeable(
        Field("sample.solver", "How x_T becomes x_0.", choices=SOLVERS),
        Field(
            "sample.steps",
            "Steps from x_T to x_0; for `annealed_langevin`, noise levels. The output `x_prev` needs all T"
            " of them, and so does `ancestral` with the variance `learned`.",
            "an integer, 1 to T; `auto` for T",
        ),
        Field(
            "sample.eta",
            "The noise of `ddim`: with 0 it is deterministic, with 1 it is ancestral sampling.",
            "a number, 0 to 1; above 0 only with `ddim`",
        ),
        Field(
            "sample.spacing",
            "The timesteps that `ancestral`, `ddim`, `dpm_solver` and `euler_maruyama` visit; the others"
            " have their own.",
            choices=(
                Choice("linear", "Evenly spaced."),
                Choice("quadratic", "Closer together near the image: arXiv:2010.02502, App. D.2."),
            ),
        ),
        Field(
            "sample.langevin.corrections",
            "Langevin updates after each step of `predictor_corrector`. Training's grids take these four"
            " fields too.",
            "an integer, 0 or more",
        ),
        Field(
            "sample.langevin.snr",
            "The signal-to-noise ratio of these updates, which decides their size.",
            "a number between 0 and 1",
        ),
        Field(
            "sample.langevin.updates",
            "Updates of `annealed_langevin` at each noise level.",
            "an integer, 1 or more",
        ),
        Field(
            "sample.langevin.step_size",
            "Their size, relative to the square of the noise level.",
            "a number between 0 and 1",
        ),
        Field("sample.count", "The number of images.", "an integer, 1 or more"),
        Field(
            "sample.batch_size",
            "Images drawn at a time, over all devices. The images do not depend on it.",
            BATCH,
        ),
        Field(
            "sample.seed",
            "Decides the noise: image i depends on the seed and i alone.",
            SEED_RANGE,
        ),
        Field(
            "sample.guidance",
            "The guidance scale w. Without a classifier: (1 + w) eps(x_t, y) - w eps(x_t),"
            " arXiv:2207.12598, where `-1` is the unconditional model. With `sample.classifier`: the"
            " weight of its gradient, where `1` is Bayes' rule.",
            "a number, -1 or more; `0` turns it off; it needs a network trained with"
            " `train.label_dropout`, or a classifier",
        ),
        Field(
            "sample.label",
            "The class of every image, by number or by name; with `-1` image i is of class i modulo their"
            " number. A network without labels needs a `sample.classifier` for it.",
            "`-1`, an integer from 0 to `model.classes` - 1, or a name",
        ),
        Field(
            "sample.classifier",
            "The workdir of a classifier that guides the samples: arXiv:2105.05233. It must have the"
            " same images and schedule, and as many classes if this network has labels.",
            "a path; `''` for none",
        ),
    ),
)

EVAL = Section(
    "eval",
    "What `--mode=evaluate` measures: the variational bound, and the quality of samples. Training"
    " ends with the bound of `eval.images` held-out images. A classifier's accuracy replaces its bound.",
    changeable(
        Field(
            "eval.images",
            "How many images of `data.held_out`, from the first, have their bound computed.",
            "an integer, 0 or more; `0` for none, a large number for all",
        ),
        Field(
            "eval.train_images",
            "The same of `data.split`, by `--mode=evaluate` only.",
            "an integer, 0 or more; `0` for none, a large number for all",
        ),
        Field(
            "eval.steps",
            "How many of the bound's T terms are computed for each image: that of t = 1, and one drawn from"
            " each of equal ranges of the other t. Fewer are faster and unbiased, with a larger standard"
            " error.",
            "an integer, 2 to T; `auto` for T",
        ),
        Field(
            "eval.batch_size",
            "Images measured at a time, over all devices.",
            BATCH,
        ),
        Field(
            "eval.seed",
            "Decides the noise, and the t that are drawn.",
            SEED_RANGE,
        ),
        Field(
            "eval.best",
            "The number by which `--follow` chooses the best checkpoint: its name in eval/history.json,"
            " or how that begins.",
            "such as `fid`, `kid_10k_test` or `bits_per_dim`; `''` for the Frechet distance, or else the"
            " bound",
        ),
        Field(
            "eval.quality.samples",
            "How many samples have their quality measured; the paper's number is 50000.",
            "an integer, 4 or more; `0` for no measurement",
        ),
        Field(
            "eval.quality.path",
            "Images from elsewhere to measure instead of the run's samples.",
            "a .npz, a .npy or a folder of images; `''` for the run's samples",
        ),
        Field(
            "eval.quality.space",
            "The features in which samples and real images are compared.",
            choices=(
                Choice(
                    "inception",
                    "Inception's: FID, KID and so on. It needs `eval.quality.inception`.",
                ),
                Choice("classifier", "A small classifier's, which is trained then on the labels."),
                Choice("pixels", "The pixels themselves."),
            ),
        ),
        Field(
            "eval.quality.inception",
            "The file of Inception's weights, which is not downloaded.",
            "inception-2015-12-05.tgz, pt_inception-2015-12-05-6726825d.pth, or a .npz made of either;"
            " `''` for none",
        ),
        Field(
            "eval.quality.reference",
            "A file with the training set's statistics, by this or another program: arrays `mu` and"
            " `sigma`, `pool_3`, or images `arr_0`.",
            "a .npz; `''` to compute them from `data.split`",
        ),
        Field(
            "eval.quality.metrics",
            "Metrics of your own, measured beside ours.",
            "a tuple of names such as `'my_module:METRIC'`; `()` for none",
        ),
    ),
)
