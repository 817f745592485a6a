"""The old name of `ddpm_jax.codec.image_file`; the next release removes it."""

import warnings

from ddpm_jax.codec import image_file

warnings.warn("ddpm_jax.codec.coding is now ddpm_jax.codec.image_file", FutureWarning, stacklevel=2)
compress, decompress = image_file.compress, image_file.decompress
