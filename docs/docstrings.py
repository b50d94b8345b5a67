"""What the API pages make of docstrings: doctests become code blocks, roles become code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":(?:func|class|mod|meth|data|attr):`~?([^`]+)`")


def fenced(text: str) -> str:
    """Put fences around doctests.

    >>> print(fenced("Text.\\n\\n>>> 1 + 1\\n2"))
    Text.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    lines: list[str] = []
    inside: str | None = None
    for line in text.splitlines():
        if inside is None and line.lstrip().startswith(">>>"):
            inside = line[: len(line) - len(line.lstrip())]
            lines.append(f"{inside}```pycon")
        elif inside is not None and not line.strip():
            lines.append(f"{inside}```")
            inside = None
        lines.append(line)
    if inside is not None:
        lines.append(f"{inside}```")
    return "\n".join(lines)


class Docstrings(Extension):
    """The griffe extension."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(_ROLE.sub(r"`\1`", obj.docstring.value))
