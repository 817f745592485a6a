"""Formats the measurements of --mode=benchmark as a table."""

from ddpm_jax.profiling import preflight_table as tables
from ddpm_jax.profiling.timing import Facts

HEADS = "part, batch", "steps/s", "images/s", "ms per step (quartiles)", "FLOPs", "of peak"
HEADS += ("compiled in",)
WIDTHS = 24, 10, 10, 28, 12, 9, 0  # of the table's columns


def head() -> str:
    """Returns the first line of the table."""
    return align(*HEADS)


def row(name: str, facts: Facts) -> str:
    """Formats a row of the table."""
    median, low, high = (
        f"{1e3 * seconds:.4g}" for seconds in (facts["seconds"], *facts["quartiles"])
    )
    share, compile_seconds = facts.get("of_peak"), facts.get("compile_seconds")
    return align(
        f"{name.replace('_', ' ')}, {facts['batch_size']}",
        f"{facts['steps_per_second']:.4g}",
        f"{facts['images_per_second']:.4g}",
        f"{median} ({low}-{high})",
        tables.number(facts.get("flops")),
        "-" if share is None else f"{share:.1%}",
        "-" if compile_seconds is None else f"{compile_seconds:.1f} s",
    )


def align(*cells: str) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))
