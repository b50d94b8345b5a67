"""``python -m benchmarks.package_check``: build the wheel and the sdist, install each, import it from there.

The fresh environments take the dependencies from the one that runs this; ``--full`` installs them from the
package index instead, which needs the network and several gigabytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECK = """
import pathlib, sys, time
import torch
start = time.perf_counter()
import snnconv
seconds = time.perf_counter() - start
where = pathlib.Path(snnconv.__file__).resolve()
assert where.is_relative_to(pathlib.Path(sys.prefix).resolve()), f"imported from {where}"
assert (where.parent / "py.typed").exists(), "py.typed is not installed"
assert callable(snnconv.convert)
from snnconv.demo import load_digits
assert len(load_digits().y_test) == 450, "the digits are not installed"
from snnbench import catalogue
assert catalogue.folder().is_relative_to(pathlib.Path(sys.prefix).resolve()), catalogue.folder()
assert "bccd/retinanet_r18" in catalogue.names(), "the configs are not installed"
assert catalogue.folder().with_name("published").is_dir(), "the published numbers are not installed"
print(f"  import snnconv takes {seconds:.2f} s beyond torch's own import")
"""


def _run(*command: str | Path) -> None:
    # no PYTHONPATH: the installed package is what is tested, not the source tree
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run([str(part) for part in command], check=True, cwd=tempfile.gettempdir(), env=environment)


def _install(artefact: Path, folder: Path, full: bool) -> None:
    print(f"{artefact.name}: installing into a fresh environment")
    venv.EnvBuilder(with_pip=True).create(folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if full:
        _run(python, "-m", "pip", "install", "--quiet", artefact)
    else:
        site = subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        # ignore-installed: the borrowed environment may hold this package itself, in development mode
        options = ("--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed")
        _run(python, "-m", "pip", "install", *options, artefact)
    _run(python, "-c", CHECK)
    _run(folder / python.parent.name / "snnconv", "--help")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--full", action="store_true", help="install the dependencies too (network)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary)
        isolation = () if options.full else ("--no-isolation",)
        _run(sys.executable, "-m", "build", *isolation, "--outdir", out, ROOT)
        wheel, sdist = next(out.glob("*.whl")), next(out.glob("*.tar.gz"))
        if importlib.util.find_spec("twine") is not None:
            _run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
        else:
            print("twine is not installed: its check of the metadata is left out")
        names = zipfile.ZipFile(wheel).namelist()
        foreign = [n for n in names if not n.startswith(("snnconv/", "snnbench/", "snnconv_plugin-"))]
        if foreign:
            print(f"the wheel installs files outside snnconv/ and snnbench/: {foreign}", file=sys.stderr)
            return 1
        for artefact in (wheel, sdist):
            _install(artefact, out / artefact.suffix.lstrip("."), options.full)
    print("wheel and sdist install and import")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
