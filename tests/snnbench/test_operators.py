"""mmcv's operators without its compiled module: against direct loops, and inside mmdet's detectors."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck

from snnbench.mmcv_ops import install as operators

pytest.importorskip("mmcv", reason="mmcv is not installed (the extra 'bench' has it)")
if operators.install() == "compiled":
    pytest.skip(
        "mmcv's own compiled operators are installed, there is nothing of ours to test", allow_module_level=True
    )

from mmcv import ops


def boxes(n: int, size: float = 20.0, dtype: torch.dtype = torch.float32) -> Tensor:
    corner = torch.rand(n, 2, dtype=dtype) * size
    return torch.cat((corner, corner + torch.rand(n, 2, dtype=dtype) * size / 2), dim=1)


def iou(a: Any, b: Any, offset: int) -> float:
    """Intersection over union of two boxes, as written in a textbook."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]) + offset)
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]) + offset)
    area = sum((c[2] - c[0] + offset) * (c[3] - c[1] + offset) for c in (a, b))
    return width * height / (area - width * height)


# --- non-maximum suppression -------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("n", [0, 1, 60])
def test_nms_keeps_what_no_better_kept_box_overlaps(n: int, threshold: float, offset: int) -> None:
    given, scores = boxes(n), torch.rand(n)
    kept: list[int] = []
    for i in scores.argsort(descending=True).tolist():
        if all(iou(given[i].tolist(), given[j].tolist(), offset) <= threshold for j in kept):
            kept.append(i)
    dets, found = ops.nms(given, scores, threshold, offset=offset)
    assert found.tolist() == kept
    torch.testing.assert_close(dets, torch.cat((given[kept], scores[kept, None]), dim=1))


def test_nms_score_threshold_and_number() -> None:
    given, scores = boxes(40), torch.rand(40)
    _, everything = ops.nms(given, scores, 0.5)
    _, found = ops.nms(given, scores, 0.5, score_threshold=0.3, max_num=4)
    assert found.tolist() == [i for i in everything.tolist() if scores[i] > 0.3][:4]


def test_nms_takes_numpy() -> None:
    given, scores = boxes(20), torch.rand(20)
    dets, found = ops.nms(given.numpy(), scores.numpy(), 0.4)
    assert isinstance(dets, np.ndarray)
    assert found.tolist() == ops.nms(given, scores, 0.4)[1].tolist()


def soft_nms(given: list[Any], scores: list[float], factor: Callable[[float], float], least: float, offset: int) -> Any:
    """Pairs (index, score) in the order of taking, by the paper's pseudo code."""
    left, taken = dict(enumerate(scores)), []
    while left:
        best = max(left, key=lambda i: left[i])
        taken.append((best, left.pop(best)))
        left = {i: s * factor(iou(given[best], given[i], offset)) for i, s in left.items()}
        left = {i: s for i, s in left.items() if s >= least}
    return taken


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("least", [0.0, 0.05])
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
@pytest.mark.parametrize("n", [0, 1, 40])
def test_soft_nms_lowers_the_scores_of_overlapping_boxes(n: int, method: str, least: float, offset: int) -> None:
    factors: dict[str, Callable[[float], float]] = {
        "naive": lambda o: 0.0 if o >= 0.3 else 1.0,
        "linear": lambda o: 1 - o if o >= 0.3 else 1.0,
        "gaussian": lambda o: math.exp(-(o**2) / 0.4),
    }
    given, scores = boxes(n, dtype=torch.float64), torch.rand(n, dtype=torch.float64)
    expected = soft_nms(given.tolist(), scores.tolist(), factors[method], least, offset)
    dets, found = ops.soft_nms(given, scores, 0.3, sigma=0.4, min_score=least, method=method, offset=offset)
    positive = sum(s > 0 for _, s in expected)  # the order of boxes of score 0 is not defined
    assert found.tolist()[:positive] == [i for i, _ in expected][:positive]
    assert len(found) == len(expected)
    torch.testing.assert_close(dets[:, 4], torch.tensor([s for _, s in expected], dtype=torch.float64))
    torch.testing.assert_close(dets[:, :4], given[found])


@pytest.mark.parametrize("split", [10000, 5])
@pytest.mark.parametrize("kind", ["nms", "soft_nms"])
def test_batched_nms_keeps_classes_apart(kind: str, split: int) -> None:
    given, scores, classes = boxes(40), torch.rand(40), torch.randint(0, 3, (40,))
    _, found = ops.batched_nms(given, scores, classes, {"type": kind, "iou_threshold": 0.3, "split_thr": split})
    for number in range(3):
        own = (classes == number).nonzero()[:, 0]
        _, alone = getattr(ops, kind)(given[own], scores[own], 0.3)
        assert [i for i in found.tolist() if classes[i] == number] == own[alone].tolist()


# --- regions of interest -----------------------------------------------------------------------------------


def bilinear(x: np.ndarray, row: float, column: float) -> np.ndarray:
    """Channels of ``x`` ``[C, H, W]`` at a place; the outermost pixels reach one pixel further, then comes 0."""
    height, width = x.shape[1:]
    if not (-1 <= row <= height and -1 <= column <= width):
        return np.zeros(len(x))
    row, column = min(max(row, 0.0), height - 1.0), min(max(column, 0.0), width - 1.0)
    total = np.zeros(len(x))
    for r in (math.floor(row), math.floor(row) + 1):
        for c in (math.floor(column), math.floor(column) + 1):
            weight = (1 - abs(row - r)) * (1 - abs(column - c))
            if weight > 0:
                total = total + weight * x[:, r, c]
    return total


def roi_align(
    x: np.ndarray, rois: np.ndarray, size: tuple[int, int], scale: float, ratio: int, mode: str, aligned: bool
) -> np.ndarray:
    output = np.zeros((len(rois), x.shape[1], *size))
    for n, (image, *corners) in enumerate(rois):
        x1, y1, x2, y2 = (c * scale - (0.5 if aligned else 0) for c in corners)
        width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        bin_height, bin_width = height / size[0], width / size[1]
        down, right = (ratio, ratio) if ratio else (math.ceil(bin_height), math.ceil(bin_width))
        for i, j in np.ndindex(size):
            samples = [
                bilinear(
                    x[int(image)], y1 + (i + (p + 0.5) / down) * bin_height, x1 + (j + (q + 0.5) / right) * bin_width
                )
                for p in range(down)
                for q in range(right)
            ]
            if samples:
                output[n, :, i, j] = np.mean(samples, 0) if mode == "avg" else np.max(samples, 0)
    return output


def regions(n: int, images: int) -> Tensor:
    """Of all sizes, some reaching over the edge of an image of 24 x 18 pixels, one of them empty."""
    start = torch.rand(n, 2, dtype=torch.float64) * 24 - 4
    found = torch.cat((start, start + torch.rand(n, 2, dtype=torch.float64) * 20), dim=1)
    found[0, 2:] = found[0, :2]
    return torch.cat((torch.randint(0, images, (n, 1)).double(), found), dim=1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_pools_bilinear_samples(mode: str, ratio: int, aligned: bool) -> None:
    x, rois = torch.randn(2, 3, 9, 12, dtype=torch.float64), regions(7, 2)
    layer = ops.RoIAlign((2, 3), 0.5, ratio, mode, aligned)
    expected = roi_align(x.numpy(), rois.numpy(), (2, 3), 0.5, ratio, mode, aligned)
    torch.testing.assert_close(layer(x, rois), torch.from_numpy(expected))


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_roi_align_gradient(mode: str, ratio: int, aligned: bool) -> None:
    x, rois = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True), regions(4, 2)
    layer = ops.RoIAlign((2, 2), 0.3, ratio, mode, aligned)
    assert gradcheck(lambda x: layer(x, rois), (x,))


def test_roi_align_in_portions_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, rois = torch.randn(2, 3, 9, 12), regions(7, 2).float()
    layer = ops.RoIAlign(3, 0.5, 0, "max")
    whole = layer(x, rois)
    monkeypatch.setattr("snnbench.mmcv_ops.roi.BUDGET", 1)
    assert torch.equal(layer(x, rois), whole)


def roi_pool(x: np.ndarray, rois: np.ndarray, size: tuple[int, int], scale: float) -> np.ndarray:
    output = np.zeros((len(rois), x.shape[1], *size))
    for n, (image, x1, y1, x2, y2) in enumerate(rois):
        left, top, width, height = x1 * scale, y1 * scale, (x2 + 1 - x1) * scale, (y2 + 1 - y1) * scale
        for i, j in np.ndindex(size):
            rows = range(math.floor(top + i * height / size[0]), math.ceil(top + (i + 1) * height / size[0]))
            columns = range(math.floor(left + j * width / size[1]), math.ceil(left + (j + 1) * width / size[1]))
            pixels = [
                x[int(image), :, r, c] for r in rows for c in columns if 0 <= r < x.shape[2] and 0 <= c < x.shape[3]
            ]
            if pixels:
                output[n, :, i, j] = np.max(pixels, 0)
    return output


def test_roi_pool_takes_the_largest_pixel() -> None:
    x, rois = torch.randn(2, 3, 9, 12, dtype=torch.float64), regions(12, 2)
    rois[1, 1:] += 100  # outside of the image
    expected = torch.from_numpy(roi_pool(x.numpy(), rois.numpy(), (3, 2), 0.5))
    torch.testing.assert_close(ops.RoIPool((3, 2), 0.5)(x, rois), expected)
    assert not expected[1].any()


def test_roi_pool_gradient() -> None:
    x, rois = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True), regions(6, 2)
    rois[1, 1:] += 100
    assert gradcheck(lambda x: ops.RoIPool(2, 0.3)(x, rois), (x,))


@pytest.mark.parametrize("layer", [ops.RoIAlign(2), ops.RoIAlign(2, pool_mode="max"), ops.RoIPool(2)])
def test_no_regions_give_no_values(layer: torch.nn.Module) -> None:
    x = torch.randn(1, 3, 4, 4, requires_grad=True)
    y = layer(x, torch.zeros(0, 5))
    assert y.shape == (0, 3, 2, 2)
    y.sum().backward()
    assert x.grad is not None
    assert not x.grad.any()


# --- focal losses ------------------------------------------------------------------------------------------


def sigmoid_focal(x: Tensor, target: Tensor, gamma: float, alpha: float, weight: Tensor | None) -> Tensor:
    """By cross entropy, which has p_t = exp(-ce)."""
    onehot = torch.stack([target == c for c in range(x.shape[1])], dim=1).to(x)
    ce = F.binary_cross_entropy_with_logits(x, onehot, reduction="none")
    loss = (alpha * onehot + (1 - alpha) * (1 - onehot)) * (1 - torch.exp(-ce)) ** gamma * ce
    if weight is not None:
        loss = loss * torch.tensor([weight[t] if t < len(weight) else 1.0 for t in target]).to(x)[:, None]
    return loss


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_sigmoid_focal_loss_and_gradient(reduction: str, gamma: float, weighted: bool) -> None:
    x = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, 4, 4, 0, 2, 4])  # 4 is background
    weight = torch.rand(4, dtype=torch.float64) if weighted else None
    layer = ops.SigmoidFocalLoss(gamma, 0.25, weight, reduction)
    expected = sigmoid_focal(x, target, gamma, 0.25, weight)
    expected = {"none": expected, "sum": expected.sum(), "mean": expected.sum() / 9}[reduction]
    torch.testing.assert_close(layer(x, target), expected)
    given = torch.autograd.grad(layer(x, target).sum(), x)[0]
    torch.testing.assert_close(given, torch.autograd.grad(expected.sum(), x)[0])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_softmax_focal_loss_and_gradient(gamma: float, weighted: bool) -> None:
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0, 1, 2, 3, -1, 2])  # -1 is left out
    weight = torch.rand(4, dtype=torch.float64) if weighted else None
    ce = F.cross_entropy(x, target, ignore_index=-1, reduction="none")
    expected = 0.25 * (1 - torch.exp(-ce)) ** gamma * ce
    if weight is not None:
        expected = expected * weight[target.clamp(min=0)]
    found = ops.SoftmaxFocalLoss(gamma, 0.25, weight, "none")(x.clone(), target)
    torch.testing.assert_close(found, expected)
    by_x = torch.autograd.grad(ops.SoftmaxFocalLoss(gamma, 0.25, weight, "sum")(x, target), x)[0]
    torch.testing.assert_close(by_x, torch.autograd.grad(expected.sum(), x, retain_graph=True)[0])


@pytest.mark.parametrize("loss", [ops.SigmoidFocalLoss(0.5, 0.25), ops.SoftmaxFocalLoss(0.5, 0.25)])
def test_focal_losses_stay_finite_for_sure_predictions(loss: torch.nn.Module) -> None:
    x = (200 * torch.eye(3)).requires_grad_()
    value = loss(x, torch.tensor([0, 1, 0]))
    value.backward()
    assert value.isfinite()
    assert x.grad is not None
    assert x.grad.isfinite().all()


# --- deformable convolutions -------------------------------------------------------------------------------


def deformed(
    x: Tensor, offset: Tensor, mask: Tensor | None, weight: Tensor, bias: Tensor | None, step: Any, pad: Any, gap: Any,
    groups: int, deform_groups: int,
) -> Tensor:  # fmt: skip
    """The definition: every tap of every output pixel reads the input between pixels, 0 beyond its edge."""
    (count, channels, height, width), (outputs, inputs, kh, kw) = x.shape, weight.shape
    y = torch.zeros(count, outputs, *offset.shape[2:], dtype=x.dtype)
    for n, o, i, j in np.ndindex(*y.shape):
        for c in range(inputs):
            channel = o // (outputs // groups) * inputs + c
            part = channel // (channels // deform_groups)
            for p, q in np.ndindex(kh, kw):
                tap = (part * kh + p) * kw + q
                row = i * step[0] - pad[0] + p * gap[0] + float(offset[n, 2 * tap, i, j])
                column = j * step[1] - pad[1] + q * gap[1] + float(offset[n, 2 * tap + 1, i, j])
                value = 0.0
                for r in (math.floor(row), math.floor(row) + 1):
                    for s in (math.floor(column), math.floor(column) + 1):
                        if 0 <= r < height and 0 <= s < width:
                            value += (1 - abs(row - r)) * (1 - abs(column - s)) * float(x[n, channel, r, s])
                factor = 1.0 if mask is None else float(mask[n, tap, i, j])
                y[n, o, i, j] += float(weight[o, c, p, q]) * factor * value
    return y if bias is None else y + bias[:, None, None]


CONVOLUTIONS = [  # kernel, stride, padding, dilation, groups, deform_groups
    ((3, 3), (1, 1), (1, 1), (1, 1), 1, 1),
    ((3, 2), (2, 1), (0, 2), (1, 2), 2, 1),
    ((1, 3), (1, 2), (1, 0), (2, 1), 1, 2),
    ((2, 2), (2, 2), (1, 1), (1, 1), 2, 4),
]


def parts(shape: Any, step: Any, pad: Any, gap: Any, groups: int, deform_groups: int) -> list[Tensor]:
    """Random (x, offset, mask, weight, bias) of 2 images of 4 channels."""
    x = torch.randn(2, 4, 5, 4, dtype=torch.float64)
    height, width = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in zip((5, 4), shape, step, pad, gap, strict=True)
    )
    taps = deform_groups * shape[0] * shape[1]
    offset = 1.5 * torch.randn(2, 2 * taps, height, width, dtype=torch.float64)
    mask = torch.rand(2, taps, height, width, dtype=torch.float64)
    return [x, offset, mask, torch.randn(2, 4 // groups, *shape, dtype=torch.float64), torch.randn(2).double()]


@pytest.mark.parametrize(("shape", "step", "pad", "gap", "groups", "deform_groups"), CONVOLUTIONS)
def test_deform_conv_reads_displaced_pixels(
    shape: Any, step: Any, pad: Any, gap: Any, groups: int, deform_groups: int
) -> None:
    x, offset, _, weight, _ = parts(shape, step, pad, gap, groups, deform_groups)
    layer = ops.DeformConv2d(4, 2, shape, step, pad, gap, groups, deform_groups).double()
    layer.weight.data = weight
    expected = deformed(x, offset, None, weight, None, step, pad, gap, groups, deform_groups)
    torch.testing.assert_close(layer(x, offset), expected)
    leaves = [t.clone().requires_grad_() for t in (x, offset, weight)]
    assert gradcheck(
        lambda x, offset, weight: ops.deform_conv2d(x, offset, weight, step, pad, gap, groups, deform_groups),
        leaves,
        fast_mode=True,
    )


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("shape", "step", "pad", "gap", "groups", "deform_groups"), CONVOLUTIONS)
def test_modulated_deform_conv_weighs_displaced_pixels(
    shape: Any, step: Any, pad: Any, gap: Any, groups: int, deform_groups: int, biased: bool
) -> None:
    x, offset, mask, weight, bias = parts(shape, step, pad, gap, groups, deform_groups)
    layer = ops.ModulatedDeformConv2d(4, 2, shape, step, pad, gap, groups, deform_groups, bias=biased).double()
    layer.weight.data = weight
    if biased:
        layer.bias.data = bias
    constant = bias if biased else None
    expected = deformed(x, offset, mask, weight, constant, step, pad, gap, groups, deform_groups)
    torch.testing.assert_close(layer(x, offset, mask), expected)
    leaves = [t.clone().requires_grad_() for t in (x, offset, mask, weight, bias)[: 5 if biased else 4]]

    def convolve(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return ops.modulated_deform_conv2d(x, offset, mask, weight, bias, step, pad, gap, groups, deform_groups)

    assert gradcheck(convolve, leaves, fast_mode=True)


def test_deform_conv_without_offsets_is_a_convolution() -> None:
    layer = ops.DeformConv2dPack(4, 6, 3, padding=1)  # its offsets start at 0
    x = torch.randn(3, 4, 7, 5)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, padding=1))


def test_deform_conv_refuses_offsets_that_are_no_numbers() -> None:
    x, offset, weight = torch.randn(1, 4, 6, 6), torch.zeros(1, 18, 4, 4), torch.randn(2, 4, 3, 3)
    offset[0, 3, 1, 2] = torch.nan
    with pytest.raises(ValueError, match="offsets of a deformable convolution are NaN"):
        ops.deform_conv2d(x, offset, weight)
    with pytest.raises(ValueError, match="offsets of a deformable convolution are NaN"):
        ops.modulated_deform_conv2d(x, offset, torch.ones(1, 9, 4, 4), weight, None, 1, 0, 1, 1, 1)


# --- half precision ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    x, rois = torch.randn(1, 4, 6, 6).to(dtype), torch.tensor([[0, 1.0, 1.0, 4.0, 5.0]]).to(dtype)
    for mode in ("avg", "max"):
        layer = ops.RoIAlign(2, pool_mode=mode)
        assert torch.equal(layer(x, rois), layer(x.float(), rois.float()).to(dtype))
    logits, target = torch.randn(5, 3).to(dtype), torch.tensor([0, 1, 2, 3, 3])
    loss = ops.SigmoidFocalLoss(2.0, 0.25, reduction="none")
    assert torch.equal(loss(logits, target), loss(logits.float(), target).to(dtype))
    weight, offset = torch.randn(2, 4, 3, 3).to(dtype), torch.randn(1, 18, 4, 4).to(dtype)
    whole = ops.deform_conv2d(x.float(), offset.float(), weight.float())
    assert torch.equal(ops.deform_conv2d(x, offset, weight), whole.to(dtype))
    given, scores = boxes(20).to(dtype), torch.rand(20).to(dtype)
    assert torch.equal(ops.nms(given, scores, 0.4)[1], ops.nms(given.float(), scores.float(), 0.4)[1])
    assert torch.equal(ops.soft_nms(given, scores, 0.4)[1], ops.soft_nms(given.float(), scores.float(), 0.4)[1])


# --- the module itself -------------------------------------------------------------------------------------


def test_installing_again_changes_nothing() -> None:
    module = sys.modules[operators.NAME]
    assert operators.install() == operators.status() == "fallback"
    assert sys.modules[operators.NAME] is module
    assert sys.modules["mmcv"].__dict__["_ext"] is module


def test_importlib_finds_the_module_with_a_loader() -> None:
    spec = importlib.util.find_spec(operators.NAME)  # raises where the module has no spec of its own
    assert spec is not None
    assert spec.loader is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mmengine_takes_mmcv_for_complete() -> None:
    assert pytest.importorskip("mmengine.utils.dl_utils").mmcv_full_available()


def test_an_operator_that_is_missing_names_itself() -> None:
    with pytest.raises(operators.MissingOperator, match=r"'nms_rotated' needs full mmcv"):
        ops.nms_rotated(torch.rand(3, 5), torch.rand(3), 0.5)
    assert issubclass(operators.MissingOperator, RuntimeError)


def test_names_of_the_import_system_are_not_operators() -> None:
    assert not hasattr(sys.modules[operators.NAME], "__path__")


@pytest.fixture
def other_mmcv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty package mmcv, of no known distribution, in place of the installed one."""

    def loaded() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "mmcv"]

    for name in loaded():
        monkeypatch.delitem(sys.modules, name)
    folder = tmp_path / "mmcv"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in loaded():
        del sys.modules[name]


def test_compiled_operators_are_preferred(other_mmcv: Path) -> None:
    (other_mmcv / "_ext.py").write_text("def nms(*args): return 'compiled'")
    assert operators.status() == "compiled"
    assert not [name for name in sys.modules if name.partition(".")[0] == "mmcv"], "status imports nothing"
    assert operators.install() == "compiled"
    assert importlib.import_module("mmcv._ext").nms() == "compiled"
    assert operators.install() == operators.status() == "compiled"


def test_compiled_operators_of_another_finder_are_preferred(other_mmcv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Loader(importlib.machinery.SourceFileLoader):
        def get_data(self, path: str) -> bytes:
            return b"origin = 'a finder'"

    class Finder:  # as an editable install puts one in front
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
            return importlib.util.spec_from_loader(name, Loader(name, "x.py")) if name == operators.NAME else None

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    assert operators.install() == operators.status() == "compiled"
    assert sys.modules[operators.NAME].origin == "a finder"


def test_any_mmcv_without_compiled_operators_gets_ours(other_mmcv: Path) -> None:
    (other_mmcv / "_ext").mkdir()  # a folder is no module
    assert operators.status() == "fallback"
    assert operators.install() == "fallback"
    assert importlib.import_module("mmcv")._ext.softnms.__module__ == "snnbench.mmcv_ops.nms"


def test_compiled_operators_that_do_not_load_are_named(other_mmcv: Path) -> None:
    file = other_mmcv / f"_ext{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    file.write_bytes(b"for another torch")
    with pytest.raises(ImportError, match=rf"{file.name}.*do not load.*Build mmcv for this one, or install mmcv-lite"):
        operators.install()


def test_a_broken_mmcv_leaves_nothing_behind(other_mmcv: Path) -> None:
    (other_mmcv / "__init__.py").write_text("import no_such_package")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        operators.install()
    assert operators.NAME not in sys.modules


def test_no_mmcv_is_told(other_mmcv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmcv", None)
    assert operators.install() == operators.status() == "absent"
    monkeypatch.delitem(sys.modules, "mmcv")
    monkeypatch.setattr(sys, "meta_path", [])
    assert operators.install() == operators.status() == "absent"


def test_missing_torchvision_is_named(other_mmcv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.delitem(sys.modules, "snnbench.mmcv_ops.nms")
    with pytest.raises(ImportError, match="need torchvision: pip install torchvision"):
        operators.install()
    assert operators.NAME not in sys.modules


# --- detectors ---------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_mmseg_imports() -> None:
    pytest.importorskip("mmseg")
    assert importlib.import_module("mmseg.models").FCNHead


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", ["retinanet/retinanet_r18_fpn_1x_coco.py", "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"]
)
def test_detectors_predict_and_learn(name: str) -> None:
    mmdet = pytest.importorskip("mmdet")
    importlib.import_module("mmdet.models")
    from mmdet.registry import MODELS
    from mmdet.structures import DetDataSample
    from mmengine.config import Config
    from mmengine.registry import DefaultScope
    from mmengine.structures import InstanceData

    path = Path(mmdet.__file__).parent / ".mim" / "configs" / name
    if not path.exists():
        pytest.skip(f"mmdet was installed without its config {name}")
    config = Config.fromfile(path).model
    config.backbone.init_cfg = None  # no download
    if "rcnn" in config.train_cfg:
        config.train_cfg.rcnn.sampler.num = 16
    size = {"img_shape": (64, 96), "ori_shape": (64, 96), "scale_factor": (1.0, 1.0)}
    sample = DetDataSample(metainfo=size)
    sample.gt_instances = InstanceData(bboxes=torch.tensor([[5.0, 6.0, 50.0, 60.0]]), labels=torch.tensor([3]))
    with DefaultScope.overwrite_default_scope("mmdet"):
        model = MODELS.build(config)
        image = torch.randint(0, 255, (3, 64, 96), dtype=torch.uint8)
        data = model.data_preprocessor({"inputs": [image], "data_samples": [sample]})
        with torch.no_grad():
            (found,) = model.eval()(**data, mode="predict")
        assert found.pred_instances.bboxes.shape[1] == 4
        losses = model.train()(**data, mode="loss")
        total, _ = model.parse_losses(losses)
        total.backward()
    assert total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
