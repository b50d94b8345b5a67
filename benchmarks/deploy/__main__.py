"""``python -m benchmarks.deploy``: exported networks on CIFAR-10 pictures, spike by spike.

Trains a small VGG with strides (``SNNCONV_DATA`` names the folder; its weights are kept in the work folder), converts
it and runs what is exported beside the network itself:

- ``sinabs``: the chain in sinabs, with float weights (float64 and float32) and with weights of 8 bits;
- ``step``: one step as ONNX in onnxruntime, state by state;
- ``twin``: the quantised twin as ONNX in onnxruntime, with float weights and with weights of 8 bits;
- ``fits``: whether the network fits a Speck2f.

Each part that is asked for is written into the record; the others stay.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import snnconv
from snnbench import results
from snnbench.results.provenance import provenance
from snnconv import methods

from ..main import exit_with
from ..nir_agreement import WORK, source_network

OUT = Path("benchmarks/exchange/deploy.json")
PARTS = ("sinabs", "step", "twin", "fits")


def of_sinabs(model: nn.Module, calibration: Tensor, x: Tensor, timesteps: int) -> dict[str, Any]:
    """Spikes of every layer and step, ours and sinabs'."""
    method = methods.IF(timesteps, per_channel=False)
    snn = snnconv.convert(model, method, calibration)
    whole = snnconv.integer_weights(snn)
    camera = torch.round(x * 32) / 32  # pictures on a grid, so that whole-number weights sum without rounding
    double = snnconv.convert(model.double(), method, calibration.double())
    model.float()
    return {
        "version": metadata.version("sinabs"),
        "float64": _beside(double, snnconv.to_sinabs(double), x.double()),
        "float32": _beside(snn, snnconv.to_sinabs(snn), x),
        "8 bits": _beside(whole, snnconv.to_sinabs(snn, weight_bits=8), camera),
    }


def _beside(snn: snnconv.SpikingNetwork, theirs: nn.Module, x: Tensor) -> dict[str, Any]:
    sent: dict[str, Tensor] = {}
    for name, module in theirs.named_children():
        if type(module).__name__ == "Population":
            module.register_forward_hook(lambda m, args, out, name=name: sent.__setitem__(name, out))
    ours: dict[str, Tensor] = {}
    snn.memory_budget = 2**40  # one pass, so that spikes come in one piece
    output = snn.readout.final(snn.run(x, observe=lambda site, out: ours.__setitem__(site, out != 0)))
    steps = snn.timesteps
    with torch.no_grad():
        found = theirs(x.repeat_interleave(steps, 0)).unflatten(0, (len(x), steps)).mean(1)
    layers = {}
    for site, fired in ours.items():
        got = sent[site.replace(".", "_")].unflatten(0, (len(x), steps)).movedim(1, 0)
        layers[site] = {"compared": fired.numel(), "spikes": int(fired.sum()), "differ": int((got != fired).sum())}
    return {
        "layers": layers,
        "compared": sum(v["compared"] for v in layers.values()),
        "spikes": sum(v["spikes"] for v in layers.values()),
        "differ": sum(v["differ"] for v in layers.values()),
        "classes_equal": 100 * float((found.argmax(1) == output.argmax(1)).float().mean()),
    }


def of_step(model: nn.Module, calibration: Tensor, x: Tensor, timesteps: int, work: Path) -> dict[str, Any]:
    """Spikes of every layer and step of the ONNX step, from its membranes' jumps, and ours."""
    import onnxruntime

    rows = {}
    for method in (methods.IF(timesteps), methods.SignedIF(timesteps)):
        snn = snnconv.convert(model, method, calibration)
        path = work / f"step_{method.name}.onnx"
        inputs, _ = snnconv.to_onnx(snn, path)
        session, step = _session(path), snnconv.stepwise(snn)
        states = list(step.initial(x))
        theirs = [s.numpy() for s in states]
        sites = [name for name in step.names if name.endswith(".v")]
        compared = differ = 0
        total, answer = np.zeros((len(x), 10), np.float32), torch.zeros(len(x), 10)
        for _ in range(step.timesteps):
            out, *states = step(x, *states)
            got, *theirs = session.run(None, dict(zip(inputs, [x.numpy(), *theirs], strict=True)))
            answer, total = answer + out, total + got
            for name, a, b in zip(step.names, states, theirs, strict=True):
                if name in sites:  # a spike more or less is a whole threshold in the membrane
                    theta = snn.thresholds[name.removesuffix(".v")].reshape(-1, *[1] * (a.dim() - 2))
                    differ += int(((a - torch.from_numpy(b)).abs() > 0.5 * theta).sum())
                    compared += a.numel()
        rows[method.name] = {
            "compared": compared,
            "differ": differ,
            "spikes_equal": 100 * (1 - differ / compared),
            "classes_equal": 100 * float((answer.argmax(1).numpy() == total.argmax(1)).mean()),
        }
    return {"version": onnxruntime.__version__, **rows}


def of_twin(
    model: nn.Module, calibration: Tensor, x: Tensor, labels: Tensor, timesteps: int, work: Path
) -> dict[str, Any]:
    """Classes of the QDQ twin, and of the sum-coded network."""
    import onnxruntime

    snn = snnconv.convert(model, methods.ShiftedThreshold(timesteps), calibration)
    want = torch.cat([snn(part) for part in x.split(100)])
    rows: dict[str, Any] = {"timesteps": timesteps, "accuracy": 100 * float((want.argmax(1) == labels).float().mean())}
    for name, int8 in (("float weights", False), ("8-bit weights", True)):
        path = work / f"twin_{'int8' if int8 else 'float'}.onnx"
        (given,), _ = snnconv.to_onnx(snn, path, twin=True, int8_weights=int8)
        got = torch.from_numpy(
            np.concatenate([_session(path).run(None, {given: p.numpy()})[0] for p in x.split(100)])
        )  # fmt: skip
        rows[name] = {
            "classes_equal": int((got.argmax(1) == want.argmax(1)).sum()),
            "accuracy": 100 * float((got.argmax(1) == labels).float().mean()),
        }
    return {"version": onnxruntime.__version__, "images": len(x), **rows}


def _session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def of_fits(model: nn.Module, calibration: Tensor) -> dict[str, Any]:
    """What the checker says."""
    fit = snnconv.fits(snnconv.convert(model, methods.IF(16, per_channel=False), calibration), "speck2f")
    return {"fits": bool(fit), "said": str(fit).splitlines()}


def run(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="which of them, separated by commas")
    parser.add_argument("--images", type=int, default=100, help="test pictures compared spike by spike")
    parser.add_argument("--timesteps", type=int, default=16)
    parser.add_argument("--work-dir", type=Path, default=WORK, help="weights and exported files")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args(arguments)
    parts = options.parts.split(",")
    if unknown := [p for p in parts if p not in PARTS]:
        parser.error(f"unknown part {unknown[0]!r}; there are {', '.join(PARTS)}")
    results.check_out(options.out)
    torch.manual_seed(0)
    model, calibration, test, labels = source_network(options.work_dir)
    record = json.loads(options.out.read_text()) if options.out.is_file() else {}
    record |= {"network": "VGG with strides, CIFAR-10", "timesteps": options.timesteps, **provenance(0)}
    x = test[: options.images]
    for part in parts:
        if part == "sinabs":
            found = of_sinabs(model, calibration, x, options.timesteps)
            record.setdefault("sinabs", {})[found.pop("version")] = {"images": len(x), **found}
        elif part == "step":
            found = of_step(model, calibration, x, options.timesteps, options.work_dir)
            record["step"] = {"images": len(x), **found}
        elif part == "twin":
            record["twin"] = of_twin(model, calibration, test, labels, 4, options.work_dir)
        else:
            record["fits"] = of_fits(model, calibration)
        results.write_whole(options.out, (json.dumps(record, indent=1) + "\n").encode())
        print(json.dumps(record[part], indent=1))
    return 0


if __name__ == "__main__":
    exit_with(run)
