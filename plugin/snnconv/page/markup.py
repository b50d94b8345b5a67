"""HTML in which whatever comes from a file or a user is text: escaped, and never a link, a script or an address."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["escaped", "page", "paragraph", "picture", "table"]

LONGEST = 300
"""Characters of a text that are shown: a name in a file may be as long as the file."""
# nothing is fetched, nothing runs: the browser holds to it, too
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --head: #36c; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin-bottom: 0; } h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.facts { color: #888; margin-top: .2rem; }
table { border-collapse: collapse; font-size: .85rem; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .7rem .25rem 0; text-align: left; }
td { overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
figure { margin: 0; } img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
details { margin-top: .5rem; } summary { cursor: pointer; color: var(--head); }
"""


def escaped(value: Any) -> str:
    """Text as HTML; what cannot be printed is marked, and a very long one cut.

    >>> escaped("<b> & so on")
    '&lt;b&gt; &amp; so on'
    """
    text = str(value)
    text = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    shown = "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return html.escape(shown, quote=True)


def paragraph(text: str) -> str:
    """A paragraph of text.

    >>> paragraph("a < b")
    '<p>a &lt; b</p>'
    """
    return f"<p>{escaped(text)}</p>"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; numbers stand to the right."""
    numeric = [all(isinstance(row[i], (int, float)) or row[i] is None for row in rows) for i in range(len(head))]

    def cells(values: Sequence[Any], kind: str) -> str:
        found = zip(values, numeric, strict=True)
        marked = [f"<{kind}{' class=number' * right}>{_cell(value)}</{kind}>" for value, right in found]
        return f"<tr>{''.join(marked)}</tr>"

    body = "".join(cells(row, "td") for row in rows)
    return f"<table><thead>{cells(head, 'th')}</thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else escaped(value)


def picture(draw: Callable[[Any], Any], said: str, size: tuple[float, float] = (8.0, 4.2)) -> str:
    """What ``draw`` draws on axes, inside the page; ``said`` tells those who cannot see it what it shows."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure.subplots())
    content = io.BytesIO()
    with rc_context({"svg.fonttype": "path", "svg.hashsalt": "snnconv"}):  # as paths: no font is asked for
        figure.savefig(content, format="svg", metadata={"Date": None})
    data = base64.b64encode(content.getvalue()).decode()
    return f'<figure><img alt="{escaped(said)}" src="data:image/svg+xml;base64,{data}"></figure>'


def page(title: str, facts: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole page; ``sections`` are titles, and their content as HTML."""
    body = "".join(f"<section><h2>{escaped(name)}</h2>{content}</section>\n" for name, content in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escaped(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><h1>{escaped(title)}</h1><p class=facts>{escaped(facts)}</p>\n{body}</body></html>\n"
    )
