"""docs/config.md: the reference as a page of tables."""

import re

from ddpm_jax.config.reference import defaults
from ddpm_jax.config.reference.entry import Field, Section, list_values
from ddpm_jax.config.reference.sections import SECTIONS

HEAD = """# Every field of a config

This page is written by `python -m ddpm_jax.config.reference > docs/config.md`. `--help=config` prints the same,
`--help=train` a section, `--help=train.keep_every` a field:

```sh
python -m ddpm_jax.main --help=train.keep_every
python -m ddpm_jax.main --config=configs/digits.py --config.train.keep_every=600 --config.model.multipliers='(1, 2)'
```

A config is a Python file with these fields; `--config.FIELD=VALUE` changes any of them for a run.

- **Default** is the value in `configs/cifar10.py`, the paper's run, or in the config named there; the next column has
  that of `digits.py` where it is another. Other configs differ from these two in a few fields.
- **`auto`** stands for a value that fits itself to the run: the network to the pictures and the device, numbers of
  sampling steps to T, the warm-up and the EMA to `train.steps`, the dtype to the device. Any value of the field's own may
  stand in its place, and `auto` in the place of any value of these fields. `config.json` stores what it became, which a
  resumed run keeps; only `model.dtype` stays `auto` and follows the device.
- **(r)** marks the fields that may change when a run is resumed. Another value of any other field is refused, and
  named, once the run has trained.
- Types are checked: `1e5` is not an integer, and `True` is not a number. On the command line a tuple is written in
  quotes, and an empty text as `''`.
- Code of your own may stand for a name, as `my_module:my_function`: see [extend.md](extend.md). The fields that take it
  are `data.name`, `model.name`, `diffusion.schedule.name`, the other names of `diffusion`, the solvers, and
  `eval.quality.metrics`.
"""


def text() -> str:
    """Returns the page."""
    return "\n".join([HEAD, *map(section_text, SECTIONS)])


def section_text(section: Section) -> str:
    lines = [f"## {section.name}", "", section.introduction, ""]
    lines += ["| field | meaning | values | default | `digits.py` |", "|---|---|---|---|---|"]
    lines += [row(field) for field in section.fields]
    for field in section.fields:
        if any(choice.meaning for choice in field.choices):
            lines += ["", f"`{field.name}`:", ""]
            lines += [f"- `{each.name or repr('')}`: {each.meaning}" for each in field.choices]
    return link("\n".join(lines) + "\n")


def row(field: Field) -> str:
    """Returns a field's row of its section's table."""
    default, other = defaults.paper()[field.name], defaults.digits().get(field.name)
    usual = default.config == defaults.PAPER[0]
    cells = (
        f"`{field.name}`" + (" (r)" if field.changeable else ""),
        field.meaning,
        list_values(field),
        f"`{default.value}`" + ("" if usual else f" (`{default.config}`)"),
        f"`{other.value}`" if other else "",
    )
    return f"| {' | '.join(cells)} |"


def link(text: str) -> str:
    """Returns the text with its arXiv numbers as links."""
    return re.sub(r"arXiv:(\d{4}\.\d{5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
