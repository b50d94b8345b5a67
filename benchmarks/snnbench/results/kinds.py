"""Kinds of answers: what is kept of each sample, and the metric of any selection of samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["KINDS", "Arrays", "Kind", "bootstrap_error", "resamples"]

Arrays = Mapping[str, Any]
"""Name → numpy array."""


@dataclass(frozen=True)
class Kind:
    """What is kept of each sample.

    Attributes:
        name: as the field ``answers.kind`` has it.
        metric: what its score is, in its unit.
        arrays: names of a network's arrays.
        score: ``(arrays, truth, weights)`` → metric for each row of ``weights [B, N]``: how often each sample counts.
        wrong: ``(arrays, truth, samples)`` → what does not fit, as words; empty where all does.
        right: array that says whether each sample was answered right; empty where the metric is no share of samples.
    """

    name: str
    metric: str
    arrays: tuple[str, ...]
    score: Callable[[Arrays, Arrays, Any], Any]
    wrong: Callable[[Arrays, Arrays, int], str]
    right: str = ""


def _share(arrays: Arrays, truth: Arrays, weights: Any) -> Any:
    return 100 * (weights @ arrays["right"].astype(float)) / weights.sum(1)


def _mean(arrays: Arrays, truth: Arrays, weights: Any) -> Any:
    return (weights @ arrays["value"].astype(float)) / weights.sum(1)


def _mean_iou(arrays: Arrays, truth: Arrays, weights: Any) -> Any:
    """Mean over classes of the intersection over the union, each summed over the samples, in percent."""
    intersect, union = (weights @ arrays[name].astype(float) for name in ("intersect", "union"))
    share = np.divide(intersect, union, out=np.full_like(union, np.nan), where=union > 0)
    return 100 * np.nanmean(share, 1)


def _mean_ap(envelope: Callable[[Any, Any], float]) -> Callable[[Arrays, Arrays, Any], Any]:
    """Mean over thresholds of overlap, then classes with objects, of the area under precision against recall."""

    def score(arrays: Arrays, truth: Arrays, weights: Any) -> Any:
        positives = weights @ truth["positives"].astype(float)
        order = np.argsort(-arrays["score"], kind="stable")
        image, kind, hit = (arrays[name][order] for name in ("image", "class", "hit"))
        found = np.zeros(len(weights))
        for b, weight in enumerate(weights):
            own = []
            for c in np.flatnonzero(positives[b]):
                chosen = (kind == c) & (weight[image] > 0)
                times = weight[image[chosen]]
                total = np.cumsum(times)
                for right in hit[chosen].T:
                    true = np.cumsum(times * right)
                    own.append(envelope(true / positives[b, c], true / np.maximum(total, 1e-12)) if len(true) else 0.0)
            found[b] = 100 * float(np.mean(own)) if own else 0.0
        return found

    return score


def _area(recall: Any, precision: Any) -> float:
    """Under the falling envelope of precision (Pascal VOC from 2010 on)."""
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * envelope))


def _at(places: Any) -> Callable[[Any, Any], float]:
    """Mean of the highest precision from each recall on: 11 recalls in VOC 2007, 101 in COCO."""

    def mean(recall: Any, precision: Any) -> float:
        envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
        return float(np.mean(envelope[np.searchsorted(recall, places, side="left")]))

    return mean


def _misfit(arrays: Arrays, wanted: Mapping[str, tuple[Any, ...]]) -> str:
    """What departs from the shapes wanted; None stands for any length."""
    for name, shape in wanted.items():
        if name not in arrays:
            return f"{name} is missing"
        has = arrays[name].shape
        if len(has) != len(shape) or any(want not in (None, n) for n, want in zip(has, shape, strict=True)):
            return f"{name} is of shape {list(has)}, not {['any' if n is None else n for n in shape]}"
        if not np.isfinite(arrays[name].astype(float)).all():
            return f"{name} holds values that are not finite"
    return ""


def _one_each(name: str) -> Callable[[Arrays, Arrays, int], str]:
    return lambda arrays, truth, samples: _misfit(arrays, {name: (samples,)})


def _wrong_areas(arrays: Arrays, truth: Arrays, samples: int) -> str:
    wrong = _misfit(arrays, {"intersect": (samples, None), "union": (samples, None)})
    return wrong or (
        "" if arrays["union"].shape == arrays["intersect"].shape else "union and intersect differ in shape"
    )


def _wrong_detections(arrays: Arrays, truth: Arrays, samples: int) -> str:
    found = len(arrays.get("score", ()))
    wrong = _misfit(truth, {"positives": (samples, None)}) or _misfit(
        arrays, {"score": (found,), "image": (found,), "class": (found,), "hit": (found, None)}
    )
    if wrong or not found:
        return wrong
    for name, most in (("image", samples), ("class", truth["positives"].shape[1])):
        if not 0 <= arrays[name].min() <= arrays[name].max() < most:
            return f"{name} lies outside 0 … {most - 1}"
    return ""


_DETECTIONS = ("score", "image", "class", "hit")
KINDS = {
    kind.name: kind
    for kind in (
        Kind("right", "top1", ("right",), _share, _one_each("right"), "right"),
        Kind("value", "mean", ("value",), _mean, _one_each("value")),
        Kind("areas", "mIoU", ("intersect", "union"), _mean_iou, _wrong_areas),
        Kind("detections, area", "mAP", _DETECTIONS, _mean_ap(_area), _wrong_detections),
        Kind("detections, 11 recalls", "mAP", _DETECTIONS, _mean_ap(_at(np.linspace(0, 1, 11))), _wrong_detections),
        Kind("detections, 101 recalls", "mAP", _DETECTIONS, _mean_ap(_at(np.linspace(0, 1, 101))), _wrong_detections),
    )
}
"""Kind of answers by its name."""

RESAMPLES = 400


def resamples(samples: int, times: int = RESAMPLES, seed: int = 20_107) -> Any:
    """How often each of N samples is drawn in N draws with replacement, ``[times, N]`` (Efron 1979)."""
    return np.random.default_rng(seed).multinomial(samples, np.full(samples, 1 / samples), size=times).astype(float)


def bootstrap_error(kind: str, arrays: Arrays, truth: Arrays, samples: int) -> float:
    """Standard error of a metric: its standard deviation over samples drawn with replacement, in the kind's unit.

    >>> right = {"right": np.array([1] * 90 + [0] * 10)}
    >>> bool(abs(bootstrap_error("right", right, {}, 100) - 3.0) < 0.3)  # 100·√(0.9 · 0.1 / 100)
    True
    """
    return float(np.std(KINDS[kind].score(arrays, truth, resamples(samples)), ddof=1))
