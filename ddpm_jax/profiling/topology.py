"""The devices of a TPU slice to compile for; the compiler needs no TPU.

The compiler is libtpu, from the extra 'preflight'. It reads the environment when it is loaded, so the
environment is set before jax starts its backends.
"""

import glob
import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from ddpm_jax.profiling import hardware

LOCAL = "local"  # the devices of this machine
# Without these libtpu asks Google's metadata server what machine this is, logs that it got no answer,
# and stops a second process that loads it. Values that the user has set are kept.
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
    """Sets libtpu's environment, and jax's platform where another machine is compiled for.

    Call it before jax starts its backends, also for LOCAL: an installed libtpu would complain that there
    is no TPU. Raises ValueError for an unknown topology.
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
    """Whether Linux lists a TPU, or jax found one; jax sets the variable where it found none."""
    files = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(files) or os.environ.get("TPU_SKIP_MDS_QUERY") != "1"


def devices(name: str) -> Sequence[jax.Device]:
    """The devices of a topology. Raises ValueError if its compiler is missing or does not know it."""
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


def in_file_name(name: str) -> str:
    return name.replace(":", "-")
