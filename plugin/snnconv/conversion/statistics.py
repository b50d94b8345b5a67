"""What calibration saw: kept, saved, and used for many T and methods."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from snnconv.conversion.given import CALIBRATION_LIMIT, calibration_batches, source_program
from snnconv.conversion.histogram import BINS, Histogram, channels_first, histograms
from snnconv.conversion.normals import assumed
from snnconv.conversion.ranks import Ranks
from snnconv.files.atomic import write_whole
from snnconv.files.fingerprint import digest
from snnconv.files.refusal import brief
from snnconv.files.seal import UNSEALED, is_sealed, sealed
from snnconv.files.untrusted import UntrustedFileError, read_json, read_safetensors, refused_as
from snnconv.graph.cover import Cover
from snnconv.graph.source import ConversionError
from snnconv.graph.unwrap import refuse, unwrap
from snnconv.inputs import Reader, Take
from snnconv.methods import corrections
from snnconv.methods.base import Method
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn, bars
from snnconv.runtime.batch import Batch, Whole
from snnconv.runtime.program import Program
from snnconv.runtime.signature import PLAIN, Signature
from snnconv.storage.typed import read

__all__ = ["Calibration", "calibrate"]

FORMAT = "snnconv-calibration/1"
SAMPLES = 256


@dataclass(frozen=True)
class _Kept:
    """What a file says of a batch of inputs by name."""

    names: list[str]
    kinds: dict[str, Literal["tensor", "whole"]]
    plain: dict[str, bool | int | float | str | None]

    def __post_init__(self) -> None:
        if sorted(self.names) != sorted([*self.kinds, *self.plain]):
            raise ValueError("the names of kept inputs are not those of their values")


@dataclass(frozen=True)
class _Header:
    """What a file says beside its tensors."""

    sites: list[str]
    seen: list[str]
    means: dict[str, float]
    samples: list[_Kept | None]
    count: int
    source_digest: str

    def tensors(self) -> set[str]:
        """Names of the tensors that belong to it."""
        found = {f"{what}/{name}" for name in self.seen for what in ("peak", "scale", "bins")}
        kept = enumerate(self.samples)
        return found | {f"samples/{n}/{name}" for n, batch in kept for name in (batch.kinds if batch else ("",))}

    def __post_init__(self) -> None:
        for what, names in (("sites", self.sites), ("seen", self.seen)):
            if len({*names}) < len(names):
                raise ValueError(f"{what} names one twice")
        if not {*self.seen} <= {*self.sites} or self.means.keys() != {*self.seen}:
            raise ValueError("sites, seen and means are not of the same sites")
        odd = next((name for name, mean in self.means.items() if not math.isfinite(mean)), None)
        if odd is not None:
            raise ValueError(f"the mean of site {odd} is {self.means[odd]}")
        if self.count < len(self.samples):
            raise ValueError(f"count is {self.count}, of {len(self.samples)} batches and more")


@dataclass
class Calibration:
    """Statistics of a network's activations, as :func:`snnconv.calibrate` gives them.

    ``snnconv.convert(model, method, calibration)`` converts from them without pictures, whatever the method and its T.

    Attributes:
        sites: names of the network's activations that may become neurons.
        histograms: of each site's activation, channel by channel; a site that no input came to has none.
        means: the largest of the means over the inputs of a site's elements (for ``delay="auto"``).
        samples: the first inputs, in batches: bias correction, reconstruction and the check of a conversion's result
            run on inputs.
        count: number of inputs that the histograms are of; 0 where BatchNorms stood for them.
        source_digest: :func:`~snnconv.files.fingerprint.digest` of the network.

    >>> import tempfile, snnconv
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> seen = snnconv.calibrate(model, torch.randn(100, 4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     seen.save(f"{folder}/net.calibration.safetensors")
    ...     seen = snnconv.Calibration.load(f"{folder}/net.calibration.safetensors")
    >>> [snnconv.convert(model, snnconv.methods.SignedIF(t), seen).timesteps for t in (4, 8)]
    [4, 8]
    """

    sites: tuple[str, ...]
    histograms: dict[str, Histogram] = field(repr=False)
    means: dict[str, float] = field(repr=False)
    samples: list[Any] = field(repr=False)
    count: int
    source_digest: str

    def of(self, sites: Iterable[str], device: torch.device | None) -> dict[str, Histogram]:
        """Histograms of these sites on a device.

        Raises:
            ConversionError: a site that the calibrated network did not have.
        """
        sites = list(sites)
        for name in sites:
            if name not in self.sites:
                known = ", ".join(self.sites)
                raise ConversionError(
                    f"{name:.80}: the calibration knows no such site, only {known:.300}; it was made of another "
                    "release or of a network that was captured in another way: run snnconv.calibrate again"
                )
        return {name: self.histograms[name].to(device) for name in sites if name in self.histograms}

    def inputs(self, method: Method, device: torch.device | None) -> list[Any]:
        """The kept samples on a device.

        Raises:
            ConversionError: there are none, and ``method`` cannot do without.
        """
        if not self.samples:
            corrects = corrections.get(method.correction).run is not None
            if corrects or method.thresholds == "ltb":
                wants = f"correction={method.correction!r}" if corrects else "thresholds='ltb'"
                instead = "correction='none'" if corrects else "thresholds='mse'"
                keep = "snnconv.calibrate(..., samples=256), or " if self.count else ""  # else it saw no input at all
                raise ConversionError(f"{wants} runs on inputs, and this calibration keeps none: {keep}take {instead}")
        return [batch.to(device) if device is not None else batch for batch in self.samples]

    def check_made_from(self, digest: str) -> None:
        """Refuse a network that is not the one that was calibrated.

        Raises:
            ConversionError: another digest.
        """
        if digest != self.source_digest:
            raise ConversionError(
                "this calibration is of another network, or of other weights of this one: run snnconv.calibrate(model, "
                "data) on the network that is converted"
            )

    def check_fits(self, program: Program, inputs: Any) -> None:
        """Refuse a network whose activations have other channels than those that were seen.

        Args:
            program: the network's.
            inputs: some of its inputs.

        Raises:
            ConversionError: names the site.
        """

        def look(site: str, z: Tensor) -> Tensor:
            at, seen = program.sites[site], self.histograms.get(site)
            channels = len(channels_first(z, at.axis, True))
            if seen is not None and len(seen.peak) != channels:
                raise ConversionError(
                    f"{site:.80}: the calibration saw {len(seen.peak)} channels, and the network has {channels} there: "
                    "run snnconv.calibrate again"
                )
            return at.activation(z)

        with torch.no_grad():
            program.static(inputs, look)

    # ------------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a safetensors file with a JSON header, as a whole or not at all.

        Raises:
            ConversionError: kept samples that are neither tensors nor values by name.
            OSError: the file cannot be written.
        """
        from safetensors.torch import save

        tensors: dict[str, Tensor] = {}
        for name, h in self.histograms.items():
            tensors |= {f"peak/{name}": h.peak, f"scale/{name}": h.scale, f"bins/{name}": h.bins}
        samples = []
        for number, batch in enumerate(self.samples):
            record, inputs = _record(batch)
            tensors |= {f"samples/{number}/{name}": value for name, value in inputs.items()}
            samples.append(record)
        header = {
            "sites": self.sites, "seen": list(self.histograms), "means": self.means, "samples": samples,
            "count": self.count, "source_digest": self.source_digest,
        }  # fmt: skip
        plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
        metadata = {"format": FORMAT, "calibration": json.dumps(header), "digest": UNSEALED.decode()}
        write_whole(Path(path), sealed(save(plain, metadata)))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read what :meth:`save` wrote; no code of the file runs.

        Raises:
            FileNotFoundError: there is no such file.
            ConversionError: a damaged file, or one of something else.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} does not exist, or is no file")
        with refused_as(ConversionError):
            tensors, metadata = read_safetensors(path)
            if metadata.get("format") != FORMAT:
                raise UntrustedFileError(f"{path}: not a file of Calibration.save")
            if not is_sealed(Path(path).read_bytes(), metadata.get("digest", "")):
                raise UntrustedFileError(f"{path}: damaged: it is not what its digest says; calibrate again")
            header = read_json(metadata.get("calibration", ""), f"{path}: calibration")
            try:
                return cls._of(read(_Header, header, "calibration"), tensors)
            except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
                raise UntrustedFileError(
                    f"{path}: damaged ({type(error).__name__}: {brief(error)}); calibrate again"
                ) from error

    @classmethod
    def _of(cls, header: _Header, tensors: Mapping[str, Tensor]) -> Calibration:
        spare = tensors.keys() - header.tensors()
        if spare:
            raise ValueError(f"tensor {min(spare)} is in the file and not in its lists")
        histograms = {}
        for name in header.seen:
            h = Histogram(tensors[f"peak/{name}"], tensors[f"scale/{name}"], tensors[f"bins/{name}"])
            channels = h.peak.shape
            floating = h.peak.is_floating_point() and h.scale.is_floating_point()
            if len(channels) != 1 or h.scale.shape != channels or h.bins.dtype != torch.int32 or not floating:
                raise ValueError(f"site {name}")
            if h.bins.shape not in ((*channels, 1 + BINS), (*channels, 1 + 2 * BINS)) or bool((h.bins < 0).any()):
                raise ValueError(f"the bins of site {name}")
            if not bool(((h.peak >= 0) & (h.peak <= h.scale) & torch.isfinite(h.scale)).all()):
                raise ValueError(f"the range of site {name}")
            counted = h.bins.sum(1)
            if not len(counted) or not bool(((counted == counted[0]) & (counted > 0)).all()):
                raise ValueError(f"site {name}: its channels have not the same number of values")
            histograms[name] = h
        samples = [_batch(record, number, tensors) for number, record in enumerate(header.samples)]
        return cls(tuple(header.sites), histograms, header.means, samples, header.count, header.source_digest)


def calibrate(
    model: nn.Module,
    data: Any,
    *,
    samples: int = SAMPLES,
    limit: int = CALIBRATION_LIMIT,
    cover: str = "activations",
    encode_input: bool = False,
    calibration_inputs: Take = None,
    progress: bool | ProgressFn | None = None,
    distributed: bool = False,
    statistics: Literal["data", "batch_norm"] = "data",
) -> Calibration:
    """Look once at a network's activations, so that every method and T converts from what was seen.

    Args:
        model: the trained network; it is not changed.
        data: inputs, in any form that :func:`snnconv.convert` takes them; no labels.
        samples: how many of the first inputs to keep, for what runs on inputs: bias correction takes 256 at most,
            reconstruction all there are, threshold balancing too. With 0 only ``correction="none"`` converts.
        limit: inputs to look at, at most.
        cover, encode_input: as for the conversions to come; statistics with encoders serve those without, too.
        calibration_inputs, progress, distributed: as for :func:`snnconv.convert`; each rank keeps samples of its own.
        statistics: ``"batch_norm"``: of ``data`` the shape alone matters. What comes out of each BatchNorm is taken as
            normal, with the mean and variance that it has learned; nothing is kept, so that ``correction="none"``
            converts. For networks with a BatchNorm behind every layer with weights that an activation follows.

    Raises:
        ConversionError: a network or data that :func:`snnconv.convert` would refuse.
        ValueError: a negative number of samples, unknown statistics.

    >>> import snnconv
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> seen = calibrate(model, torch.randn(100, 4), samples=32)
    >>> seen.count, len(seen.samples[0])
    (100, 32)
    >>> snnconv.convert(model, snnconv.methods.ShiftedThreshold(4), seen).report.calibration_samples
    100
    """
    if samples < 0 or limit < 1:
        raise ValueError(f"samples is {samples} and limit {limit}: keep 0 samples or more, of at least one input")
    if statistics not in ("data", "batch_norm"):
        raise ValueError(f"statistics must be 'data' or 'batch_norm', got {statistics!r}")
    if isinstance(model, SpikingNetwork):
        raise ConversionError("this network is already converted; calibrate the network it was made from")
    refuse(model)
    model = unwrap(model).model
    signature = Signature.of(model)
    batches = calibration_batches(data, limit, model, Reader(signature, calibration_inputs))
    signature = Signature.from_spec(signature.described(batches[0]))
    ranks = Ranks(distributed)
    with bars(progress) as tell, torch.no_grad():
        where = Cover(cover, encode_input, wanted=lambda kind: kind.extrema is not None)
        captured, ann = source_program(model, batches, signature, where)
        if statistics == "batch_norm":
            if captured.source is None:
                raise ConversionError(f"statistics='batch_norm' needs the network's graph, and {captured.why}")
            found, batches = assumed(captured.source, batches[0], tell), []
        else:
            found = histograms(ann, batches, True, tell, ranks, elements=True)
    means = {name: h.largest_mean(ranks) for name, h in found.items()}
    kept: list[Any] = []
    for batch in batches:
        kept += [batch[: samples - sum(map(len, kept))]] if sum(map(len, kept)) < samples else []
    for h in found.values():
        h.sums.clear()
    count = int(ranks.total(torch.tensor(sum(map(len, batches)))))
    return Calibration(tuple(ann.sites), found, means, kept, count, digest(model))


def _record(batch: Any) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """What a header says of a batch, None for one tensor; and its tensors by name."""
    if isinstance(batch, Tensor):
        return None, {"": batch}
    values: dict[str, Any] = batch.values
    odd = [name for name, v in values.items() if not isinstance(v, (Tensor, Whole, *PLAIN))]
    if odd:
        raise ConversionError(
            f"input {odd[0]!r} of the kept samples is a {type(values[odd[0]]).__name__}, which a file does not hold: "
            "calibrate with samples=0, and convert with correction='none'"
        )
    kinds = {name: "whole" if isinstance(v, Whole) else "tensor" for name, v in values.items()}
    plain = {name: v for name, v in values.items() if not isinstance(v, Tensor | Whole)}
    kinds = {name: kind for name, kind in kinds.items() if name not in plain}
    tensors = {name: v.data if isinstance(v, Whole) else v for name, v in values.items() if name in kinds}
    return {"names": list(values), "kinds": kinds, "plain": plain}, tensors


def _batch(record: _Kept | None, number: int, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `_record`."""
    kept = [tensors[f"samples/{number}/{name}"] for name in (record.kinds if record else ("",))]
    if any(v.is_floating_point() and bool(v.isnan().any()) for v in kept):
        raise ValueError("a kept input is NaN")
    whole = [name for name, kind in record.kinds.items() if kind == "whole"] if record else []
    if not kept or any(not v.dim() or not len(v) for v in kept if not whole):
        raise ValueError("a batch of kept inputs holds none")
    if record is None:
        return kept[0]
    values: dict[str, Any] = dict.fromkeys(record.names)
    values |= record.plain
    for name, kind in record.kinds.items():
        value = tensors[f"samples/{number}/{name}"]
        values[name] = Whole(value) if kind == "whole" else value
    return Batch(values)
