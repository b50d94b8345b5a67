"""``python -m benchmarks.nir_agreement``: one NIR file in five frameworks, spike by spike.

Trains a small VGG on CIFAR-10 (``SNNCONV_DATA`` names the folder; kept in the work folder), converts it to
integrate-and-fire neurons, writes it as NIR, reads the file with the importers of SpikingJelly, snnTorch, sinabs and
Norse, and compares every spike with what the file says.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import snnconv
from snnbench import results
from snnbench.results.provenance import provenance

from .main import exit_with
from .nir_frameworks import FRAMEWORKS, Framework, Run, version

CONFIG = "configs/classification/cifar10/vgg_strided.py"
WORK = Path("work_dirs/nir")


def source_network(work: Path) -> tuple[torch.nn.Module, Tensor, Tensor, Tensor]:
    """The trained network, calibration images, test images and their labels."""
    from snnbench.config import load_config
    from snnbench.registry import DATASETS, MODELS
    from snnbench.train import train
    from snnconv.files.untrusted import load_weights

    config = load_config(CONFIG)
    config.work_dir = str(work / "training")
    weights = Path(config.work_dir) / "weights.safetensors"
    if not weights.is_file():
        train(config)
    classifier = MODELS.build(config.model).eval()
    load_weights(classifier, weights)

    def images(loader: Any, count: int) -> tuple[Tensor, Tensor]:
        data = DATASETS.build({**loader.dataset, "pipeline": []})
        batch = data.batch(torch.linspace(0, len(data) - 1, count).long().tolist())
        return classifier.data_preprocessor({"inputs": batch["inputs"]})["inputs"], batch["data_samples"]

    calibration, _ = images(config.train_dataloader, 1024)
    test, labels = images(config.test_dataloader, 1000)
    return classifier.network, calibration, test, labels


def compare(
    framework: Framework, path: Path, x: Tensor, said: Run, neurons: list[str], corrected: bool
) -> dict[str, Any]:
    """One row: how far a framework's run is what the file says."""
    try:
        module = framework.load(path, len(x))
        if corrected:
            framework.correct(module)
        found = framework.run(module, x, len(said.spikes[0]), neurons)
    except Exception as error:  # an importer's own failure is a result
        return {"refused": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120]}"}
    pairs = list(zip(found.spikes, said.spikes, strict=True))
    count = sum(b.numel() for _, b in pairs)
    return {
        "spikes_equal": 100 * sum(float((a == b).sum()) for a, b in pairs) / count,
        "layers_equal": [100 * float((a == b).float().mean()) for a, b in pairs],
        "spikes": sum(float(a.sum()) for a, _ in pairs) / len(x),
        "classes_equal": 100 * float((found.output.argmax(1) == said.output.argmax(1)).float().mean()),
    }


def run(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=100, help="test images compared spike by spike")
    parser.add_argument("--timesteps", type=int, default=16)
    parser.add_argument("--work-dir", type=Path, default=WORK, help="weights and NIR files")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/exchange/nir_agreement.json"))
    options = parser.parse_args(arguments)
    results.check_out(options.out)
    torch.manual_seed(0)
    model, calibration, test, labels = source_network(options.work_dir)
    snn = snnconv.convert(model, snnconv.methods.IF(options.timesteps), calibration)
    path = options.work_dir / f"vgg_if_T{options.timesteps}.nir"
    snnconv.to_nir(snn, path)
    exact = options.work_dir / f"vgg_if_T{options.timesteps}_state.nir"
    snnconv.to_nir(snn, exact, start="state")
    file, state_file = snnconv.from_nir(path), snnconv.from_nir(exact)
    batches = list(zip(test.split(100), labels.split(100), strict=True))
    networks = {"source network": model, "converted": snn, "NIR file": file, "NIR file, start as state": state_file}
    with torch.no_grad():
        accuracy = {
            name: 100 * sum(float((net(x).argmax(1) == y).sum()) for x, y in batches) / len(test)
            for name, net in networks.items()
        }
    x = test[: options.images]
    said = Run(file(x), list(file.run(x)[1].values()))
    rows = {}
    for name, framework in FRAMEWORKS.items():
        installed = version(framework.package)
        for corrected in (False, True):
            row = (
                {"refused": "not installed"}
                if installed is None
                else compare(framework, path, x, said, file.neurons, corrected)
            )
            rows[f"{name}, corrected" if corrected else name] = {
                "version": installed, "changes": framework.changes if corrected else None, **row
            }  # fmt: skip
    rows["snnconv, start as state"] = _own(snn, state_file, x)
    record = {
        "network": "VGG with strides, CIFAR-10",
        "timesteps": options.timesteps,
        "images": len(x),
        "accuracy": {"images": len(test), **accuracy},
        "rows": rows,
        **provenance(0),
    }
    results.write_whole(options.out, (json.dumps(record, indent=1) + "\n").encode())
    print(table(record))
    return 0


def _own(snn: snnconv.SpikingNetwork, file: Any, x: Tensor) -> dict[str, Any]:
    """The converted network itself beside its file."""
    fired: dict[str, Tensor] = {}
    snn.memory_budget = 2**40  # one pass, so that spikes come in one piece
    output = snn.readout.final(snn.run(x, observe=lambda site, out: fired.update({site: (out != 0).to(out.dtype)})))
    got, spikes = file.run(x)
    pairs = list(zip(fired.values(), spikes.values(), strict=True))
    count = sum(b.numel() for _, b in pairs)
    return {
        "version": snnconv.__version__,
        "changes": None,
        "spikes_equal": 100 * sum(float((a == b).sum()) for a, b in pairs) / count,
        "layers_equal": [100 * float((a == b).float().mean()) for a, b in pairs],
        "spikes": sum(float(b.sum()) for _, b in pairs) / len(x),
        "classes_equal": 100 * float((got[file.delay :].mean(0).argmax(1) == output.argmax(1)).float().mean()),
    }


def table(record: dict[str, Any]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "; ".join(f"{name} {value:.1f} %" for name, value in record["accuracy"].items() if name != "images")
        + f" ({record['accuracy']['images']} images)",
        "",
        f"| importer | version | spikes equal | class equal | spikes an image | (T = {record['timesteps']}) |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name, row in record["rows"].items():
        note = row.get("refused") or row["changes"] or ""
        figures = (
            "| - | - | - |"
            if "refused" in row
            else f"| {row['spikes_equal']:.3f} % | {row['classes_equal']:.1f} % | {row['spikes']:,.0f} |"
        )
        lines.append(f"| {name} | {row['version'] or '-'} {figures} {note} |")
    return "\n".join(lines)


if __name__ == "__main__":
    exit_with(run)
