"""The devices of a TPU slice, as targets of a compiler that needs no TPU.

The compiler is libtpu, from the extra 'preflight'. It reads the environment when it is loaded, which is
therefore set before jax starts its backends.
"""

import glob
import os
from collections.abc import Sequence
from importlib import metadata

import jax
from jax.experimental import topologies

from ddpm_jax.profiling import hardware

LOCAL = "local"  # the devices of this machine
# Without these, libtpu queries Google's metadata server, logs that it does not answer, and stops any
# second process that loads it. Values that the user has set are kept.
ENVIRONMENT = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_LOG_DIR": "disabled",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
}


def begin(name: str) -> None:
    """Sets libtpu's environment, and jax's platform unless the topology is LOCAL.

    Call it before jax starts its backends, also for LOCAL: without a TPU, an installed libtpu logs
    errors. Raises ValueError for an unknown topology.
    """
    if name == LOCAL and has_tpu():
        return
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    if name != LOCAL:
        hardware.parse_topology(name)
        jax.config.update("jax_platforms", "cpu")
        # A program for absent devices can be written to the compilation cache, but not read back.
        jax.config.update("jax_enable_compilation_cache", False)


def has_tpu() -> bool:
    """Returns whether Linux lists a TPU or jax found one; without one, jax sets the variable."""
    files = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(files) or os.environ.get("TPU_SKIP_MDS_QUERY") != "1"


def devices(name: str) -> Sequence[jax.Device]:  # pyright: ignore[reportInvalidTypeForm]
    """Returns the devices of a topology. Raises ValueError if the compiler is missing or rejects it."""
    if name == LOCAL:
        return jax.devices()
    options = hardware.parse_topology(name).options
    try:
        description = topologies.get_topology_desc(topology_name=name, platform="tpu", **options)
    except RuntimeError as error:
        if "not installed" in str(error):
            raise ValueError(
                "compiling for a TPU needs its compiler: pip install -e '.[preflight]'"
            ) from error
        raise ValueError(f"--topology={name}: {' '.join(str(error).split())}") from error
    return list(description.devices)


def file_stem(name: str) -> str:
    """Returns "v5e-16x16" for "v5e:16x16"."""
    return name.replace(":", "-")


def libtpu_version() -> str | None:
    """Returns the version of libtpu, or None if it is not installed as a package."""
    try:
        return metadata.version("libtpu")
    except metadata.PackageNotFoundError:
        return None
