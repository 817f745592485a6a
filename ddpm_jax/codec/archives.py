"""The old name of `ddpm_jax.codec.archive`; the next release removes it."""

import warnings

from ddpm_jax.codec import archive as archive_file

warnings.warn("ddpm_jax.codec.archives is now ddpm_jax.codec.archive", FutureWarning, stacklevel=2)
archive, unarchive = archive_file.archive, archive_file.unarchive
