"""``python -m benchmarks.gpu_check.pack OUT``: what a GPU machine without a network needs beside the checkout.

``OUT/wheels`` holds the packages that are seldom there, in the versions of this environment; ``OUT/data`` the weights
of the ResNet-20, CIFAR-10's test pictures and as many training pictures, the same number of each class, as fit.
There: ``pip install --no-index --no-deps --target site OUT/wheels/*.whl``, ``PYTHONPATH=site``,
``SNNCONV_DATA=OUT/data``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from importlib import metadata
from itertools import zip_longest
from pathlib import Path

from benchmarks.data import DataError, find
from benchmarks.main import exit_with

PACKAGES = ("spikingjelly", "loguru", "tqdm", "requests", "urllib3", "idna", "certifi")
"""Pure Python, so that one wheel serves every machine: SpikingJelly, and what it imports that may not be there."""
WEIGHTS = "resnet20_cifar10.safetensors"
TEST, TRAIN = "cifar10_test.zip", "cifar10_train.zip"
MIB = 2**20


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check.pack", description=__doc__)
    parser.add_argument("out", type=Path, help="folder; what it holds is written over")
    parser.add_argument("--mib", type=float, default=45.0, help="the folder's size at most")
    parser.add_argument("--no-wheels", action="store_true", help="only the pictures and weights")
    options = parser.parse_args(arguments)
    data = options.out / "data"
    data.mkdir(parents=True, exist_ok=True)
    if not options.no_wheels:
        wheels(options.out / "wheels")
    shutil.copyfile(find(WEIGHTS), data / WEIGHTS)
    for name in (TEST, TRAIN):
        (data / name).unlink(missing_ok=True)
    tested, trained = (
        some_of(find(name), data / name, options.mib * MIB - size_of(options.out)) for name in (TEST, TRAIN)
    )
    if not tested or not trained:
        raise DataError(f"{options.mib:g} MiB are too few: no training picture fits; give --mib more")
    print(f"{options.out}: {size_of(options.out) / MIB:.1f} MiB, {trained} training and {tested} test pictures")
    return 0


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def wheels(folder: Path) -> None:
    """Fetch `PACKAGES` through pip."""
    shutil.rmtree(folder, ignore_errors=True)
    wanted = [f"{name}=={metadata.version(name)}" for name in PACKAGES]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    subprocess.run([*command, "--dest", str(folder), *wanted], check=True)


def some_of(source: Path, target: Path, most: float) -> int:
    """Copy pictures, one of each class in turn, until ``most`` bytes are full; returns how many."""
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as part:
        classes: dict[str, list[zipfile.ZipInfo]] = defaultdict(list)
        for entry in whole.infolist():
            if not entry.is_dir():
                classes[Path(entry.filename).parent.name].append(entry)
        count = 0
        for row in zip_longest(*classes.values()):
            row = [entry for entry in row if entry is not None]
            # a picture has its name twice in the archive, beside 76 bytes of headers
            size = sum(entry.file_size + 2 * len(entry.filename.encode()) + 76 for entry in row)
            if size > most:
                break
            most -= size
            for entry in row:
                part.writestr(entry.filename, whole.read(entry))
            count += len(row)
    return count


if __name__ == "__main__":
    exit_with(main)
