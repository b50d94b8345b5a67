"""How figures are written in tables, the same in Markdown and on the page."""

from __future__ import annotations

import re
import unicodedata

from snnbench.leaderboard.entries import Row
from snnbench.leaderboard.statistics import Estimate

__all__ = ["code", "count", "figure", "markdown", "metric", "plural", "rank", "spread", "value"]

EMPTY = "–"
_TURNS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u061c")
_BLOCK = re.compile(r"^(\d*)([#+=-]|[.)](?=\s|$))")
"""What would begin a heading, a list, a line or a block at the start of a line."""
_ADDRESS = re.compile(r"(?=://)|(?<=\bwww)(?=\.)", re.IGNORECASE)
"""Where a backslash keeps GitHub from making a link of a bare address."""
METRICS = {"top1": "top-1 (%)", "top5": "top-5 (%)", "mIoU": "mIoU (%)"}


def metric(name: str) -> str:
    """A metric's name in a heading.

    >>> metric("top1"), metric("return")
    ('top-1 (%)', 'return')
    """
    return METRICS.get(name, name)


def value(number: float | None) -> str:
    """A metric's value.

    >>> value(88.339), value(9351.72), value(None)
    ('88.34', '9351.7', '–')
    """
    return figure(number, 1 if number is not None and abs(number) >= 1000 else 2)


def figure(number: float | None, digits: int) -> str:
    """A number with ``digits`` decimals, a dash where there is none.

    >>> figure(0.1234, 2), figure(-0.001, 2)
    ('0.12', '0.00')
    """
    if number is None:
        return EMPTY
    text = f"{number:.{digits}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", "−")


def count(number: float | None) -> str:
    """A large number to three digits.

    >>> count(20127529.8), count(950), count(None)
    ('20.1 M', '950', '–')
    """
    if number is None:
        return EMPTY
    for size, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def spread(estimate: Estimate) -> str:
    """Standard error and, of several seeds, their standard deviation.

    >>> spread(Estimate(88.0, 100, seeds=3, std=0.2, sampling=3.2))
    '± 3.20; std 0.20 of 3 seeds'
    >>> spread(Estimate(48.0, 100))
    '–'
    """
    parts = [] if estimate.sampling is None else [f"± {value(estimate.sampling)}"]
    if estimate.std is not None:
        parts.append(f"std {value(estimate.std)} of {estimate.seeds} seeds")
    return "; ".join(parts) or EMPTY


def plural(number: int, one: str, many: str = "") -> str:
    """A number and what is counted.

    >>> plural(1, "entry", "entries"), plural(2000, "row")
    ('1 entry', '2,000 rows')
    """
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def rank(row: Row) -> str:
    """The rank, as a range where entries cannot be told apart; with ? where the files do not give the error."""
    first, last = row.rank
    return f"{first}–{last}" if last > first else f"{first}{'' if row.certain else '?'}"


def markdown(text: object) -> str:
    """Text as a cell of a Markdown table: nothing in it is markup.

    >>> markdown("a|b <i>*x*")
    'a\\\\|b &lt;i&gt;\\\\*x\\\\*'
    >>> markdown("http://a.b www.c.d e@f.g")
    'http\\\\://a.b www\\\\.c.d e\\\\@f.g'
    """
    found = _line(text).replace("\\", "\\\\").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    for character in "|*_`[]~$@":
        found = found.replace(character, f"\\{character}")
    found = _ADDRESS.sub(r"\\", found)
    return _BLOCK.sub(r"\1\\\2", found)


def code(text: object) -> str:
    """Text as code within a line of Markdown: nothing in it is markup, and nothing ends it.

    >>> code("snnconv bench `a`"), code("x\\n\\n# y")
    ('`` snnconv bench `a` ``', '`x # y`')
    """
    found = _line(text)
    longest = max((len(run) for run in re.findall("`+", found)), default=0)
    fence = "`" * (longest + 1)
    space = " " if longest or found != found.strip() else ""
    return f"{fence}{space}{found}{space}{fence}"


def _line(text: object) -> str:
    """Text on one line, without characters that are no text or change the direction of reading."""
    visible = (" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in str(text) if c not in _TURNS)
    return " ".join("".join(visible).split())
