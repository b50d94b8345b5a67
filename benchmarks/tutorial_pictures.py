"""``python -m benchmarks.tutorial_pictures``: runs docs/tutorial.md, keeps its pictures in docs/pictures/tutorial."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["main", "run_blocks"]

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "tutorial.md"
FOLDER = ROOT / "docs" / "pictures" / "tutorial"


def run_blocks(text: str, name: str, only: str = "", **given: Any) -> dict[str, Any]:
    """Run a page's Python blocks one after the other, as a reader would; returns what they defined.

    With ``only``, those that contain it, where ``given`` is known already.
    """
    space: dict[str, Any] = {"__name__": name, **given}
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if only not in block[1]:
            continue
        line = text[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], name, "exec", dont_inherit=True), space)
    return space


def main() -> int:
    text = PAGE.read_text(encoding="utf-8")
    wanted = re.findall(r"\(pictures/tutorial/([\w.]+)\)", text)
    # smaller on the page than on paper
    text = text.replace("dpi=150", "dpi=80")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        run_blocks(text, PAGE.name)
        FOLDER.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            shutil.copy(Path(folder) / name, FOLDER / name)
            print(f"wrote docs/pictures/tutorial/{name}")
        os.chdir(ROOT)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
