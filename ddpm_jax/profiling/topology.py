"""The devices of a TPU slice that is not there, for its compiler, which needs no TPU.

The compiler is libtpu, the extra 'preflight'. It reads the environment when it is loaded, so what it
has to know is set before jax has started its backends.
"""

import glob
import os
from collections.abc import Sequence

import jax
from jax.experimental import topologies

from ddpm_jax.profiling import hardware

LOCAL = "local"  # the devices that are there
# What the user has set stays. Without these it asks Google's network what machine this is, says what
# it did not learn, and stops a second process that loads it.
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
    """Before jax starts its backends: for another machine's devices this one's are the CPU.

    Also where nothing is compiled for another machine, libtpu, if it is installed, shall not complain
    that there is no TPU. Raises ValueError for a name that is none.
    """
    if name == LOCAL and tpu_is_here():
        return
    for variable, value in ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    if name != LOCAL:
        hardware.slice_of(name)
        jax.config.update("jax_platforms", "cpu")
        # What is compiled for devices that are not there can be written to the cache, not read.
        jax.config.update("jax_enable_compilation_cache", False)


def tpu_is_here() -> bool:
    """Whether Linux shows one; jax, which looks in another place, says by this variable that it saw none."""
    shown = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(shown) or os.environ.get("TPU_SKIP_MDS_QUERY") != "1"


def devices(name: str) -> Sequence[jax.Device]:
    """Of a topology. Raises ValueError where the compiler is not installed, or does not know it."""
    if name == LOCAL:
        return jax.devices()
    options = hardware.slice_of(name).options
    try:
        described = topologies.get_topology_desc(topology_name=name, platform="tpu", **options)
    except RuntimeError as error:
        if "not installed" in str(error):
            raise ValueError(
                "compiling for a TPU needs its compiler: pip install -e '.[preflight]'"
            ) from error
        raise ValueError(f"--topology={name}: {' '.join(str(error).split())}") from error
    return list(described.devices)


def in_file_name(name: str) -> str:
    return name.replace(":", "-")
