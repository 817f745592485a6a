"""The old name of `python -m ddpm_jax.main --mode=prepare`; the next release removes it."""

import runpy
import sys

if __name__ == "__main__":
    print("datasets.prepare is now: python -m ddpm_jax.main --mode=prepare", file=sys.stderr)
    sys.argv.insert(1, "--mode=prepare")
    runpy.run_module("ddpm_jax.main", run_name="__main__")
