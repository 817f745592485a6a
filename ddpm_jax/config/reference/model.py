"""The fields of 'model' and 'diffusion'."""

from ddpm_jax.config.reference.entry import Choice, Field, Section

MODEL = Section(
    "model",
    "The network: the paper's U-Net (Appendix B). With `diffusion.loss=classification` it is the"
    " U-Net's downward half, a classifier.",
    (
        Field(
            "model.channels",
            "The channels of the first level.",
            "an integer, 1 or more; norms have the paper's 32 groups if it is a multiple of 32; `auto` for 32"
            " on a CPU, else 64 for fewer than 1,000 pictures, 96 for fewer than 10,000, and 128",
        ),
        Field(
            "model.multipliers",
            "One number for each level: its channels are so many times `model.channels`. Each level has"
            " half the height and width of the one before.",
            "a tuple of integers, 1 or more; of n levels, 2^(n - 1) must divide height and width; `auto` for"
            " levels down to a height of 4, on a CPU 8, with 1 for the first and for heights of 128 or more,"
            " and 2 for the others",
        ),
        Field(
            "model.blocks",
            "Residual blocks at each level on the way down; there is one more on the way up.",
            "an integer, 1 or more",
        ),
        Field(
            "model.attention",
            "Heights at which attention follows each residual block. The network's heights are"
            " `data.image_size`, its half, and so on, one for each level. The middle of the network"
            " always has attention.",
            "a tuple of the network's heights; `()` for none; `auto` for the one nearest to 16, by ratio",
        ),
        Field(
            "model.dropout",
            "The dropout rate of the residual blocks, in training.",
            "a number, 0 or more and below 1",
        ),
        Field(
            "model.dtype",
            "The precision of convolutions and matrix products. Parameters, norms, softmax and loss are"
            " float32.",
            choices=(
                Choice("auto", "bfloat16 on accelerators, float32 on CPUs."),
                Choice("float32", "32 bits."),
                Choice("bfloat16", "16 bits, which is faster on accelerators and slow on CPUs."),
            ),
            changeable=True,
        ),
        Field(
            "model.classes",
            "The number of classes whose labels the network takes; it must be the data set's.",
            "an integer, 0 or more; `0` for a network without labels; a classifier needs 2 or more",
        ),
    ),
)

SCHEDULES = (
    Choice("linear", "beta evenly spaced from beta_1 to beta_T: the paper's choice, Sec. 4."),
    Choice("quadratic", "The square root of beta evenly spaced, Sec. 4."),
    Choice("constant", "beta_T at every step, Sec. 4."),
    Choice(
        "cosine", "A squared cosine for alpha_bar, which needs T alone: arXiv:2102.09672, Eq. 17."
    ),
    Choice(
        "vp", "The variance-preserving SDE, DDPM's limit of many steps: arXiv:2011.13456, Eq. 11."
    ),
    Choice("sub_vp", "The sub-VP SDE, with less noise at every t: arXiv:2011.13456, Eq. 12."),
    Choice(
        "ve",
        "The variance-exploding SDE, sigma geometric from sigma_min to sigma_max: arXiv:2011.13456,"
        " Eq. 9. With T = 10 it has NCSN's noise levels, arXiv:1907.05600.",
    ),
)
OUTPUTS = (
    Choice("eps", "The noise in x_t: the paper's choice, Eqs. 11 to 14."),
    Choice("x_0", "The image."),
    Choice(
        "x_prev",
        "mu-tilde, the mean of a single step (Eq. 7 and Table 2). Samples need all T steps and a solver"
        " that does not use the score: `ancestral`, `ddim`, `dpm_solver` or `heun`.",
    ),
)
VARIANCES = (
    Choice("fixed_small", "beta-tilde, the posterior's: Sec. 3.2. The paper's runs at 256x256."),
    Choice("fixed_large", "beta: Sec. 3.2. The release's default for CIFAR-10."),
    Choice(
        "learned",
        'The network\'s log-variance of each pixel: Table 2, "learned diagonal". Needs the loss `vlb` or'
        " `hybrid`; `ancestral` then takes all T steps.",
    ),
    Choice(
        "learned_range",
        "Between the two fixed ones, by the network: arXiv:2102.09672, Eq. 15. Needs the loss `hybrid` or"
        " `vlb`.",
    ),
)
LOSSES = (
    Choice(
        "simple",
        "The mean squared error of the output: for `eps` it is L_simple, Eq. 14, the paper's choice.",
    ),
    Choice("vlb", "A term of the variational bound, in bits/dim: L in Table 2, Eq. 5."),
    Choice(
        "likelihood",
        "The score's squared error, weighted by g^2 so that it bounds the likelihood: arXiv:2101.09258,"
        " Theorem 1. Not for `x_prev`.",
    ),
    Choice(
        "hybrid",
        "L_simple + 0.001 L_vlb, where L_vlb trains only the variance: arXiv:2102.09672, Eq. 16. Needs a"
        " learned variance.",
    ),
    Choice(
        "classification",
        "The cross-entropy of a classifier of noisy images, to guide another run's samples:"
        " arXiv:2105.05233. See `sample.classifier`.",
    ),
)
TIMESTEPS = (
    Choice("uniform", "Whole t from 1 to T, all alike: Algorithm 1."),
    Choice(
        "importance",
        "Whole t, in proportion to the root mean square of its last 10 losses: arXiv:2102.09672, Eq. 18."
        " Meant for the loss `vlb`.",
    ),
    Choice(
        "continuous",
        "Any t between 0.01 and T: arXiv:2011.13456, Eq. 7. With the loss `simple`, `likelihood` or"
        " `classification`, and not the output `x_prev`.",
    ),
)
LIKELIHOODS = (
    Choice("normal", "The exact one, stable in the tails."),
    Choice("tanh", "The release's approximation, with probabilities of at least 1e-12."),
)

DIFFUSION = Section(
    "diffusion",
    "The forward process, what the network predicts, and what training minimises. Equations and sections"
    " without a number of arXiv are the paper's, arXiv:2006.11239.",
    (
        Field(
            "diffusion.schedule.name",
            "The noise at each t. Numbers that a schedule does not use are ignored.",
            choices=SCHEDULES,
        ),
        Field(
            "diffusion.schedule.T",
            "The number of timesteps of the forward process.",
            "an integer, 2 or more",
        ),
        Field(
            "diffusion.schedule.beta_1",
            "The variance of the first step, for `linear`, `quadratic`, `vp` and `sub_vp`.",
            "a number between 0 and 1; for SDEs above 0 and at most beta_T",
        ),
        Field(
            "diffusion.schedule.beta_T",
            "The variance of the last step, for these and `constant`.",
            "a number between 0 and 1; for SDEs it may be larger",
        ),
        Field(
            "diffusion.schedule.sigma_min",
            "The noise at t = 1, for `ve`. Images lie in [-1, 1].",
            "a number above 0",
        ),
        Field(
            "diffusion.schedule.sigma_max",
            "The noise at t = T, for `ve`.",
            "a number above sigma_min",
        ),
        Field("diffusion.output", "What the network predicts.", choices=OUTPUTS),
        Field("diffusion.variance", "The variance of a reverse step.", choices=VARIANCES),
        Field("diffusion.loss", "What training minimises.", choices=LOSSES),
        Field(
            "diffusion.timesteps",
            "How training draws t. Weights keep the mean loss over t unbiased.",
            choices=TIMESTEPS,
        ),
        Field(
            "diffusion.log_cdf",
            "The normal distribution function in the decoder's likelihood, for the losses `vlb` and"
            " `hybrid`. Evaluation always uses the exact one.",
            choices=LIKELIHOODS,
        ),
    ),
)
