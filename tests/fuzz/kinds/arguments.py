"""Arguments of the command line: what the programs of others, and tired people, pass."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import random
import shutil
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.fuzz.changes import Changed
from tests.fuzz.kind import Kind, WrongError

NETWORK = """\
import torch
from torch import nn
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
"""
COMMON = ("net.py:net", "--data", "set.safetensors", "--method", "if", "--timesteps", "4")
LINES: dict[str, tuple[str, ...]] = {
    "convert": ("convert", *COMMON, "--out", "net.snn.safetensors", "--framework", "snntorch"),
    "eval": ("eval", *COMMON[:5], "--at", "2,4", "--limit", "5"),
    "eval-saved": ("eval", "net.py:net", "--data", "set.safetensors", "--snn", "saved"),
    "compare": ("compare", *COMMON, "--calibration", "set.safetensors", "--calibration-images", "4"),
    "profile": ("profile", *COMMON, "--precision", "float32", "--limit", "4"),
    "bench": ("bench", "no/config", "--limit", "3", "--methods", "signed", "--cfg-options", "bench.limit=3"),
    "train": ("train", "no/config", "--cfg-options", "train_cfg.max_epochs=1", "--launcher", "none"),
    "leaderboard": ("leaderboard", "--folder", "pages", "--check"),
}  # fmt: skip
ODD = (
    "", "-1", "0", "1", "1e9", "nan", "none", "true", "70000", "9" * 30, "9" * 300, "-", "--", "..", "/", "\u2028",
    "/dev/null", "a" * 300, "\udcff", "\x00", "x.py:net", "net.py:", ":", "set.safetensors", "net.py", "4,8,,",
    "2:4", "[", "{'a': 1}", "=", "a=", "no=1", "--help", "--limit", "--size", "--mean", "--std", "--per-channel",
    "--thresholds", "--correction", "--snn", "--weights", "--framework", "int8", "torchvision:", "timm:",
)  # fmt: skip
SEPARATOR = b"\x1e"


def samples() -> dict[str, bytes]:
    """A line of each command that needs no long work."""
    return {name: SEPARATOR.join(map(os.fsencode, words)) for name, words in LINES.items()}


def change(content: bytes, draw: random.Random) -> Changed:
    """An argument is another, gone, there twice, or in another place."""
    words = [os.fsdecode(word) for word in content.split(SEPARATOR)]
    for _ in range(draw.choice((1, 1, 2))):
        what, at = draw.choice(("other", "other", "more", "gone", "move", "bytes")), draw.randrange(1, len(words))
        if what == "other":
            words[at] = draw.choice(ODD)
        elif what == "more":
            words.insert(at, draw.choice(ODD))
        elif what == "gone" and len(words) > 2:
            del words[at]
        elif what == "move":
            words.insert(at, draw.choice(words))
        elif words[at]:
            place = draw.randrange(len(words[at]))
            words[at] = words[at][:place] + draw.choice("-/.:,=0x[é") + words[at][place + 1 :]
    return Changed(SEPARATOR.join(os.fsencode(word) for word in words), "argument", True)


@functools.cache
def _folder() -> Path:
    """A network, its data, and its converted form."""
    folder = Path(tempfile.mkdtemp())
    (folder / "net.py").write_text(NETWORK)
    (folder / "pages" / "results").mkdir(parents=True)
    draw = torch.Generator().manual_seed(0)
    save_file({"x": torch.rand(12, 4, generator=draw), "y": torch.arange(12) % 3}, folder / "set.safetensors")
    status, said = _run(folder, [*LINES["convert"][:-4], "--out", "saved"])
    assert status == 0, said
    return folder


def read(path: Path) -> Any:
    """The exit status."""
    words = [os.fsdecode(word) for word in path.read_bytes().split(SEPARATOR)]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "work"
        shutil.copytree(_folder(), copy)
        status, said = _run(copy, words)
    if status == 2:
        if len(said.strip()) < 10:
            raise WrongError("no words", said)
        raise SystemExitError(said)
    if status not in (0, 1):
        raise WrongError("status", f"{status}: {said}")
    return status


class SystemExitError(Exception):
    """The command refuses."""


@functools.cache
def _command() -> Any:
    from typer.main import get_command

    from snnconv.cli.app import app

    return get_command(app)


def _run(folder: Path, words: list[str]) -> tuple[int, str]:
    """Status and words of a command in a folder; an error that nobody meant goes on."""
    said = io.StringIO()
    words = [*words, "--debug"] if words[0] != "--help" else words
    with contextlib.chdir(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            _command().main(args=words, prog_name="snnconv")
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(bool(ended.code)), said.getvalue()
        except Exception as error:
            if not _ours(error):
                raise WrongError("raw", "".join(traceback.format_exception_only(error))) from error
            return 2, str(error)
    return 0, said.getvalue()


def _ours(error: BaseException) -> bool:
    """Whether an error was raised on purpose: by a line of the project, of a type that says more than its name."""
    if isinstance(error, OSError) and error.filename is not None:
        return True
    frames = traceback.extract_tb(error.__traceback__)
    mine = any(part in frames[-1].filename for part in ("snnconv", "snnbench")) if frames else False
    kinds = (KeyError, IndexError, AttributeError, TypeError, AssertionError, UnicodeError, ZeroDivisionError)
    return mine and not isinstance(error, kinds)


KIND = Kind(samples, change, read, (SystemExitError,), is_file=False, count=16, needs=("mmengine", "typer"))
