"""When training logs, draws and saves."""


def is_due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def is_logged(step: int, every: int) -> bool:
    """Returns whether a step ends a logged row: every 'every' steps, and before that at 1, 2, 5, 10, 20, 50, ...

    It depends on the step alone, so that a resumed run logs the same rows.
    """
    is_early = step < every and f"{step}".rstrip("0") in ("1", "2", "5")
    return is_due(step, every) or is_early
