"""Files from strangers, read without running code that they contain: weights, checkpoints, arrays, JSON, YAML.

Every reader of the project that opens a file it has not written itself goes through one of these.

``torch.load`` refuses what mmengine 0.10 puts beside the weights (numpy numbers, its history of the log).
:func:`allow_checkpoint_globals` allows exactly that, for ``Runner(resume=True)`` and ``load_from``;
:func:`load_weights` reads the weights alone, of any of these files.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.utils import consume_prefix_in_state_dict_if_present

from snnconv import limits
from snnconv.files.pickled import HISTORY, LogHistory, safe_globals
from snnconv.files.plain import check_sizes, misfit
from snnconv.files.refusal import UntrustedFileError, brief, refused_as, regular
from snnconv.files.zips import is_zip, opened, verified

__all__ = [
    "CheckpointError", "UntrustedFileError", "allow_checkpoint_globals", "load_weights", "read_header", "read_json",
    "read_pickle", "read_safetensors", "read_yaml", "refused_as",
]  # fmt: skip


class CheckpointError(ValueError):
    """A file that holds no weights, or those of another network; the message names it and says what is wrong."""


def allow_checkpoint_globals() -> None:
    """Let ``torch.load`` read mmengine's checkpoints with ``weights_only=True``; calling it again changes nothing.

    They ask for numpy arrays and numbers, for ``HistoryBuffer`` and, by ``getattr``, for its four statistics. That is
    what they get, from stand-ins that can do nothing else; the ``getattr`` and the arrays of Python and numpy are not
    allowed. onedl-mmengine, which allows them and opens with ``weights_only=False`` what it is refused, no longer does.

    Example:
        >>> allow_checkpoint_globals()
    """
    owner = None
    if importlib.util.find_spec("mmengine") is not None:
        owner = importlib.import_module(HISTORY).HistoryBuffer
        loading = importlib.import_module("mmengine.runner.checkpoint")
        if hasattr(loading, "_safe_torch_load"):  # onedl-mmengine
            vars(loading)["_safe_torch_load"] = partial(torch.load, weights_only=True)
    torch.serialization.add_safe_globals(safe_globals(owner))


def _how_to_make(path: Path) -> str:
    """The command that leaves weights at ``work_dirs/<task>/<data set>/<config>/weights.safetensors``."""
    parts = path.parts
    if "work_dirs" not in parts:
        return ""
    config = Path("/".join(("configs", *parts[parts.index("work_dirs") + 1 : -1])) + ".py")
    return f": `snnconv train {config.as_posix()}` makes it" if config.is_file() else ""


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Load a file's weights into ``model``, all of them, onto the devices that its tensors are on.

    Args:
        model: receives the weights; unchanged if they do not fit.
        path: a ``.safetensors`` file, or one that ``torch.save`` or mmengine wrote: a state dict, or a dict that has
            one as ``state_dict`` or ``model``. A ``module.`` before every name, as data-parallel training puts it, is
            left out; so is the ``network.`` that `ImageClassifier` puts, where ``model`` is its network.

    Raises:
        FileNotFoundError: there is no such file.
        CheckpointError: it is damaged, holds something else or asks for code to be run; or names or shapes differ
            from the model's, or values would (complex numbers, infinite in the model's type).

    Example:
        >>> import tempfile
        >>> source, target = nn.Linear(3, 2), nn.Linear(3, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"state_dict": source.state_dict()}, f"{folder}/net.pth")
        ...     load_weights(target, f"{folder}/net.pth")
        >>> bool((source.weight == target.weight).all())
        True
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist{_how_to_make(path)}")
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; give the checkpoint file in it")
    with refused_as(CheckpointError):
        content = read_safetensors(path)[0] if path.suffix == ".safetensors" else read_pickle(path)
    weights = _state_dict(content, path)
    own = model.state_dict()
    if all(name.startswith("network.") for name in weights) and not any(name.startswith("network.") for name in own):
        consume_prefix_in_state_dict_if_present(weights, "network.")  # type: ignore[arg-type]
    problems = [
        f"{name} {why}"
        for name, value in weights.items()
        if isinstance(value, Tensor) and isinstance(own.get(name), Tensor) and (why := misfit(value, own[name]))
    ]
    if not problems:
        before = {name: value.clone() for name, value in own.items() if isinstance(value, Tensor)}
        keys = model.load_state_dict(weights, strict=False)
        problems = [f"{name} is not in the file" for name in keys.missing_keys]
        problems += [f"{name} is only in the file" for name in keys.unexpected_keys]
        if problems:
            model.load_state_dict(before, strict=False)
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise CheckpointError(
            f"{path}: these are not the weights of the given {type(model).__name__}: "
            f"{brief('; '.join(problems[:4]))}{more}"
        )


# --- readers -----------------------------------------------------------------------------------------------


def read_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of a safetensors file, and the texts in its header.

    Raises:
        OSError: it cannot be opened.
        UntrustedFileError: it is damaged or something else.
    """
    from safetensors import SafetensorError, safe_open

    regular(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            names = list(file.keys())
            if len(names) > limits.TENSORS:
                raise UntrustedFileError(
                    f"{path} is refused: it holds {len(names):,} tensors, more than snnconv.limits.TENSORS = "
                    f"{limits.TENSORS:,}; raise that limit if it is right"
                )
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as error:
        raise UntrustedFileError(
            f"{path}: not a readable safetensors file ({brief(error)}); copy or save it again"
        ) from error


def read_header(path: str | os.PathLike[str]) -> dict[str, str]:
    """The texts in the header of a safetensors file, without its tensors.

    Raises:
        OSError, UntrustedFileError: as for :func:`read_safetensors`.
    """
    from safetensors import SafetensorError, safe_open

    regular(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise UntrustedFileError(
            f"{path}: not a readable safetensors file ({brief(error)}); copy or save it again"
        ) from error


def read_pickle(source: str | os.PathLike[str] | IO[bytes], name: str | None = None) -> Any:
    """What ``torch.save`` wrote: tensors, numbers, text, and arrays of numbers or text, in lists and dictionaries.

    Args:
        source: the file.
        name: what to call it in messages, where ``source`` is an open one.

    Raises:
        OSError: it cannot be opened.
        UntrustedFileError: it is damaged, or asks for anything else; nothing of it was run.
    """
    name = name or str(source)
    if isinstance(source, str | os.PathLike):
        regular(source)
    try:
        if is_zip(source):  # torch looks neither at the checksums nor at what a zip would grow to
            place = 0 if isinstance(source, str | os.PathLike) else source.tell()
            with opened(source, name) as archive:
                verified(archive)
            if not isinstance(source, str | os.PathLike):
                source.seek(place)
        with _allowed(safe_globals(LogHistory)):
            content = torch.load(source, map_location="cpu", weights_only=True)
        check_sizes(content, name)
        return content
    except (OSError, UntrustedFileError):
        raise
    except Exception as error:  # a damaged file can make anything go wrong
        asked = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if asked:
            raise UntrustedFileError(
                f"{name}: refused, and nothing of it was run: it asks for {asked[1]:.80}, which is no part of a "
                "network's weights; save the state_dict alone where the file comes from"
            ) from error
        raise UntrustedFileError(
            f"{name}: not a checkpoint that can be read: it is truncated, damaged or something else; copy or save it "
            "again"
        ) from error


def read_json(content: bytes | str, name: str) -> Any:
    """What JSON holds.

    Args:
        content: the file's content.
        name: the file, for messages.

    Raises:
        UntrustedFileError: it is not JSON, or not to be read: nested too deep, a number of thousands of digits.
    """
    try:
        return json.loads(content.decode("utf-8") if isinstance(content, bytes) else content)
    except json.JSONDecodeError as error:
        raise UntrustedFileError(
            f"{name}: line {error.lineno}, column {error.colno}: not JSON ({error.msg})"
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UntrustedFileError(f"{name}: line {line}: not UTF-8 text, so not JSON") from error
    except RecursionError as error:
        raise UntrustedFileError(f"{name}: not JSON that can be read (it is nested too deep)") from error
    except ValueError as error:
        raise UntrustedFileError(f"{name}: not JSON that can be read ({brief(error)})") from error


def read_yaml(content: str, name: str) -> Any:
    """What YAML holds: texts, numbers, truth values, dates, lists and mappings.

    Args:
        content: the file's text.
        name: the file, for messages.

    Raises:
        UntrustedFileError: it is not YAML, or a tag of it asks for a Python object.

    >>> read_yaml("a: [1, two]", "a.yaml")
    {'a': [1, 'two']}
    """
    import yaml

    try:
        return yaml.safe_load(content)
    except yaml.constructor.ConstructorError as error:
        asked = re.search(r"tag:yaml\.org,2002:(python/[^']+)", str(error.problem))
        where = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        if asked:
            raise UntrustedFileError(
                f"{name}: {where}refused, and nothing of it was run: it asks for !!{asked[1]:.80}; "
                "YAML holds data alone"
            ) from error
        raise UntrustedFileError(f"{name}: {where}{brief(error.problem)}") from error
    except yaml.YAMLError as error:
        raise UntrustedFileError(f"{name}: not YAML ({brief(' '.join(str(error).split()))})") from error
    except (RecursionError, ValueError) as error:
        raise UntrustedFileError(f"{name}: not YAML that can be read ({brief(error)})") from error


def _state_dict(content: Any, path: Path) -> MutableMapping[str, Any]:
    """The weights in what a file holds."""
    if isinstance(content, MutableMapping):
        for key in ("state_dict", "model"):
            if isinstance(content.get(key), MutableMapping):
                content = content[key]
                break
        if content and all(isinstance(v, Tensor) or str(n).endswith("_extra_state") for n, v in content.items()):
            if all(str(name).startswith("module.") for name in content):
                consume_prefix_in_state_dict_if_present(content, "module.")
            weights: MutableMapping[str, Any] = content
            return weights
    raise CheckpointError(
        f"{path}: holds no weights: neither a dict of tensors, nor one that has them as 'state_dict' or 'model'"
    )


@contextmanager
def _allowed(pairs: list[Any]) -> Iterator[None]:
    """Allow ``pairs`` for a while; torch's own context manager would also take away those allowed before."""
    before = set(torch.serialization.get_safe_globals())
    with torch.serialization.safe_globals([pair for pair in pairs if pair not in before]):
        yield
