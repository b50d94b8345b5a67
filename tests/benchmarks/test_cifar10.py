"""Accuracy on real pictures: the CIFAR-10 ResNet-20, training-free, on a part of the test images.

The floors leave room for the sampling error of 1,000 images; ``tox -e bench-cifar10`` measures all 10,000.
"""

import pytest
import torch

import snnconv
from benchmarks.data import cifar10
from snnconv import methods
from snnconv.graph.capture.fx import source_graph
from snnconv.runtime.program import GraphProgram

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def images(data_folder):
    calibration = cifar10("train").shuffled(0).first(512)
    test = cifar10("test").shuffled(0).first(1000)
    return [x for x, _ in calibration.batches(64)], list(test.batches(100))


def accuracy(network, batches):
    with torch.no_grad():
        right = sum(int((network(x).argmax(1) == y).sum()) for x, y in batches)
    return 100 * right / sum(len(y) for _, y in batches)


@pytest.mark.parametrize(
    ("method", "loss"),
    [
        (methods.ShiftedThreshold(4), 1.5),
        (methods.SignedIF(8), 3.0),
        (methods.SignedIF(4), 11.0),
        (methods.IF(16), 7.0),
        (methods.SRP(4, 4), 16.0),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_accuracy_stays_close_to_the_network(resnet20, images, method, loss):
    calibration, test = images
    snn = snnconv.convert(resnet20, method, calibration, progress=False)
    assert accuracy(snn, test) >= accuracy(resnet20, test) - loss
    assert snnconv.audit(snn, test[0][0][:2])


def test_bias_correction_is_worth_points(resnet20, images):
    calibration, test = images
    none, bias = (
        accuracy(snnconv.convert(resnet20, methods.SignedIF(4, correction=c), calibration, progress=False), test)
        for c in ("none", "bias")
    )
    assert bias > none + 5


def test_srp_beats_if_with_the_same_thresholds_and_latency(resnet20, images):
    calibration, test = images
    thresholds = snnconv.convert(resnet20, methods.IF(16, correction="none"), calibration, progress=False).thresholds
    srp, plain = (
        snnconv.SpikingNetwork(GraphProgram(source_graph(resnet20)), method, thresholds)
        for method in (methods.SRP(4, 4), methods.IF(8))
    )
    assert accuracy(srp, test) > accuracy(plain, test) + 6
