"""One architecture: captured, converted with ``cover="synapses"``, and what came of it as a line of JSON."""

from __future__ import annotations

import time
import warnings
from typing import Any

PICTURES = 8


def tried(name: str) -> dict[str, Any]:
    """What came of one architecture, with random weights, on 8 pictures of noise.

    Returns:
        ``way`` (of capture), ``seconds`` and ``capture`` (of which in capturing), ``processor`` (its seconds, of one
        core: what else runs on the machine does not count), ``sites``, ``analog`` (operators, each with how often), or
        ``refused``: the sentence.
    """
    import timm
    import torch

    import snnconv

    torch.manual_seed(0)
    torch.set_num_threads(1)
    line: dict[str, Any] = {"name": name, "timm": timm.__version__, "torch": torch.__version__.partition("+")[0]}
    model = timm.create_model(name, pretrained=False).eval()
    size = model.pretrained_cfg.get("input_size", (3, 224, 224))
    line |= {"parameters": sum(p.numel() for p in model.parameters()), "input": list(size)}
    images = torch.randn(PICTURES, *size)
    begin, busy = time.perf_counter(), time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            snn = snnconv.convert(
                model,
                snnconv.methods.ShiftedThreshold(timesteps=4, correction="none"),
                images,
                cover="synapses",
                progress=False,
            )
    except Exception as error:  # the refusal is the result
        kind = "" if isinstance(error, snnconv.ConversionError) else f"{type(error).__name__}: "
        return line | {"refused": kind + str(error)[:400], "seconds": round(time.perf_counter() - begin, 1)}
    processor = time.process_time() - busy
    report = snn.report
    assert report is not None
    analog: dict[str, int] = {}
    for site in report.analog:
        analog[site.operator] = analog.get(site.operator, 0) + 1
    return line | {
        "way": report.capture or report.path,
        "seconds": round(time.perf_counter() - begin, 1),
        "capture": report.seconds["capture"],
        "processor": round(processor, 1),
        "sites": len(report.spiking),
        "analog": analog,
    }
