"""The frame of a page: head, styles, script and sections, in one HTML file that loads nothing."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(title: str, parts: Iterable[str]) -> str:
    """Returns an HTML document; the policy in its head keeps it from ever requesting anything."""
    style, script = (
        resources.files("ddpm_jax.report").joinpath(f"page.{end}").read_text()
        for end in ("css", "js")
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
{"".join(part for part in parts if part)}
<script>
{script}</script>
</body>
</html>
"""


def section(title: str, *parts: str) -> str:
    """Returns a section with a heading; "" if it has no content."""
    content = "\n".join(part for part in parts if part)
    return f"<section><h2>{escape(title)}</h2>\n{content}\n</section>\n" if content else ""


def cards(values: Iterable[tuple[str, str, str]]) -> str:
    """Returns numbers at a glance: each with its name and a note below it."""
    items = [
        f'<div class="card"><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(note)}</small></dd></div>'
        for name, value, note in values
    ]
    return f'<dl class="cards">{"".join(items)}</dl>\n'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table of HTML cells, of which all but the first of a row are short, such as numbers."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = []
    for row in rows:
        cells = [f"<td{' class=value' if i else ''}>{cell}</td>" for i, cell in enumerate(row)]
        body.append(f"<tr>{''.join(cells)}</tr>")
    kind = " class=two" if len(head) == 2 else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{names}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def paragraph(text: str, kind: str = "") -> str:
    return f"<p{f' class={kind}' if kind else ''}>{escape(text)}</p>"


def commands(lines: Iterable[str]) -> str:
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def figure(picture: str, caption: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{picture}</figure>"
