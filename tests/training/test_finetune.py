"""Layer-wise fine-tuning on the network's own rates."""

import copy
import json
import struct
import sys

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.activations import QuantReLU
from snnconv.files.seal import UNSEALED, sealed
from snnconv.graph.capture.fx import source_graph
from snnconv.training.layers import layers

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(96, 3, 8, 8, generator=GENERATOR)
Y = torch.randint(5, (96,), generator=GENERATOR)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv1 = nn.Conv2d(6, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.skip = nn.Conv2d(6, 8, 1)
        self.relu = nn.ReLU()
        self.linear = nn.Linear(8 * 16, 5)

    def forward(self, x):
        x = self.relu(self.stem(x))
        y = self.conv2(self.relu(self.bn1(self.conv1(x))))
        x = nn.functional.max_pool2d(self.relu(y + self.skip(x)), 2)
        return self.linear(x.flatten(1))


def trained(images, labels):
    model = snnconv.prepare(Residual(), QuantReLU(3), images, progress=False)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    return model.eval()


@pytest.fixture(scope="module")
def qann():
    torch.manual_seed(0)
    return trained(X, Y)


def spiking(model, method=methods.IF):
    return snnconv.convert(model, method(3, thresholds="trained", correction="none"))


def finetune(model, snn, data=((X, Y),), **options):
    settings = {"epochs": 3, "batch_size": 32, "progress": False, **options}
    return snnconv.finetune_layerwise(model, snn, list(data), **settings)


def accuracy(net):
    return 100 * float((net(X).argmax(1) == Y).float().mean())


def test_layers_are_what_lies_between_sites():
    source = source_graph(Residual().eval())
    found = {layer.name: (set(layer.inputs), set(layer.tensors)) for layer in layers(source)}
    assert found == {
        "relu": (set(), {"stem.weight", "stem.bias"}),
        "relu:2": ({"relu"}, {"conv1.weight", "conv1.bias"}),
        "relu:3": ({"relu", "relu:2"}, {"conv2.weight", "conv2.bias", "skip.weight", "skip.bias"}),
    }


METHODS = [methods.IF, methods.SignedIF, lambda t, **o: methods.SRP(t, 4, **o)]


@pytest.fixture(scope="module")
def separable():
    """A network and data that it tells apart without a mistake, so that what fine-tuning mends hangs on no rounding."""
    torch.manual_seed(1)
    labels = torch.randint(5, (96,))
    images = torch.rand(5, 3, 8, 8)[labels] + 0.5 * torch.rand(96, 3, 8, 8)
    return trained(images, labels), images, labels


def damaged(model, method=methods.IF):
    snn = spiking(model, method)
    snn.program.source.tensors["conv1.weight"].mul_(-0.5)
    return snn


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_layer_is_mended(separable, method):
    model, images, labels = separable
    snn = damaged(model, method)
    tuned, report = finetune(model, snn, [(images, labels)], epochs=5, learning_rate=0.03)
    scores = [100 * float((net(images).argmax(1) == labels).float().mean()) for net in (model, snn, tuned)]
    assert scores[0] > 95
    assert scores[2] > scores[1] + 15
    assert any(layer.kept for layer in report.layers)


@pytest.mark.parametrize("method", METHODS)
def test_layers_come_closer_and_accuracy_does_not_fall(qann, method):
    snn = spiking(qann, method)
    tuned, report = finetune(qann, snn)
    assert report.measure == "accuracy"
    assert all(not layer.kept or layer.score[1] >= layer.score[0] for layer in report.layers)
    assert accuracy(tuned) >= accuracy(snn)
    assert report.layers[0].score[0] == pytest.approx(accuracy(snn))


def test_the_best_epoch_is_kept(qann, monkeypatch):
    """Epochs whose accuracies rise and fall again: the weights of the best one stay, and it is the one reported."""
    from snnconv.training.finetune import Tuning

    scores, weights = iter([50.0, *[60.0, 80.0, 80.0, 70.0] * 3]), []
    name = "stem.weight"

    def score(work):
        weight = work.program.source.tensors[name].detach()
        if len(weights) < 5:  # no epoch of this layer ends where the one before did, whether it has a gradient or not
            weight.add_(1e-4)
        weights.append(weight.clone())
        return next(scores)

    monkeypatch.setattr(Tuning, "score", score)
    errors = iter([0.9, 0.8, 0.3, 0.2, 0.7] + [0.9] * 10)  # equal accuracy: the smaller error decides
    monkeypatch.setattr(Tuning, "error", lambda work, layer: next(errors))
    tuned, report = finetune(qann, spiking(qann), epochs=4)
    assert (report.layers[0].score, report.layers[0].error, report.layers[0].kept) == ((50.0, 80.0), (0.9, 0.2), True)
    assert torch.equal(tuned.program.source.tensors[name], weights[3])
    assert not torch.equal(weights[3], weights[4])
    assert [layer.kept for layer in report.layers[1:]] == [False, False]
    assert report.layers[1].score == (80.0, 80.0)


def test_the_given_networks_are_unchanged(separable):
    model, images, labels = separable
    snn = damaged(model)
    before, source = copy.deepcopy(snn.state_dict()), copy.deepcopy(model.state_dict())
    tuned, _ = finetune(model, snn, [(images, labels)], epochs=5, learning_rate=0.03)
    assert all(torch.equal(v, before[k]) for k, v in snn.state_dict().items())
    assert all(torch.equal(v, source[k]) for k, v in model.state_dict().items())
    assert any(not torch.equal(v, before[k]) for k, v in tuned.state_dict().items())
    assert not any(v.requires_grad for v in tuned.state_dict(keep_vars=True).values())


def test_thresholds_and_the_last_layer_stay(qann):
    snn = spiking(qann)
    tuned, report = finetune(qann, snn)
    assert all(torch.equal(snn.thresholds[k], v) for k, v in tuned.thresholds.items())
    assert not any(name.startswith("linear") for layer in report.layers for name in layer.tensors)


def test_weights_that_do_not_help_are_taken_back(qann):
    snn = spiking(qann)
    tuned, report = finetune(qann, snn, learning_rate=5.0)
    assert not all(layer.kept for layer in report.layers)
    for layer in report.layers:
        for name in layer.tensors:
            same = torch.equal(tuned.program.source.tensors[name], snn.program.source.tensors[name])
            assert same != layer.kept
    assert accuracy(tuned) >= accuracy(snn)


def test_the_first_layer_is_right_already_and_stays_so(qann):
    _, report = finetune(qann, spiking(qann))
    assert report.layers[0].error[0] < 1e-9
    assert report.layers[0].error[1] < 1e-3


def test_a_killed_run_goes_on_to_the_same_network(qann, tmp_path):
    class Killed(Exception):
        pass

    def die(what, done, total):
        if what == "fine-tuning relu_3" and done == 2:
            raise Killed

    snn = spiking(qann)
    whole, report = finetune(qann, snn)
    with pytest.raises(Killed):
        finetune(qann, snn, checkpoint=tmp_path, progress=die)
    seen = set()
    resumed, again = finetune(qann, snn, checkpoint=tmp_path, progress=lambda what, *_: seen.add(what))
    assert "fine-tuning relu_2" not in seen
    assert "fine-tuning relu_3" in seen
    assert again == report
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in resumed.state_dict().items())


def test_a_layers_tensors_come_in_the_graphs_order(qann):
    source = spiking(qann).program.source
    order = [node.target for node in source.graph.nodes if node.op == "get_attr"]
    found = [[order.index(name) for name in layer.tensors] for layer in layers(source)]
    assert max(map(len, found)) == 4
    assert found == [sorted(at) for at in found]


def test_a_checkpoint_of_another_run_is_refused(qann, tmp_path):
    snn = spiking(qann)
    finetune(qann, snn, checkpoint=tmp_path, epochs=1)
    with pytest.raises(ConversionError, match="belongs to a run with other networks, data or settings"):
        finetune(qann, snn, checkpoint=tmp_path, epochs=2)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda whole: b"half", "not a readable safetensors file"),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), "damaged: it is not what its digest says"),
        (lambda whole: changed_text(whole, '"kept": ', '"kepl": '), "its list of layers is damaged"),
        (lambda whole: changed_text(whole, '["', '["x'), "its tensors are not those of the layers that it lists"),
        (lambda whole: changed_text(whole, '[{"name"', '{{"name"'), "layers: line 1, column 2: not JSON"),
    ],
    ids=["half", "a bit", "a field", "a name", "a bracket"],
)
def test_a_damaged_checkpoint_is_refused_and_named(qann, tmp_path, damage, reason):
    snn = spiking(qann)
    finetune(qann, snn, checkpoint=tmp_path, epochs=1)
    path = tmp_path / "finetune.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConversionError, match=rf"finetune\.safetensors: {reason}"):
        finetune(qann, snn, checkpoint=tmp_path, epochs=1)


def changed_text(content: bytes, old: str, new: str) -> bytes:
    """A checkpoint whose list of layers says something else, with a digest that is right."""
    (size,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + size])["__metadata__"]
    metadata |= {"layers": metadata["layers"].replace(old, new, 1), "digest": UNSEALED.decode()}
    return sealed(save(load(content), metadata))


def test_without_labels_agreement_decides(qann):
    _, report = finetune(qann, spiking(qann), [X])
    assert report.measure == "agreement"


def test_outputs_that_are_no_classes_are_compared():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 1)
    )
    snn = snnconv.convert(model, methods.IF(3), X, progress=False)
    tuned, report = finetune(model, snn, [X])
    assert report.measure == "output error"
    errors = [float((net(X) - model(X)).detach().norm()) for net in (snn, tuned)]
    assert errors[1] <= errors[0]
    assert [layer.name for layer in report.layers] == ["1", "3"]


def test_report_prints_a_line_a_layer(qann):
    _, report = finetune(qann, spiking(qann), epochs=1, samples=32)
    assert "relu_3" in str(report)
    assert report.to_dict()["measure"] == "accuracy"


def test_bad_input(qann):
    snn = spiking(qann)
    shifted = snnconv.convert(qann, methods.ShiftedThreshold(2, thresholds="trained"))
    with pytest.raises(ConversionError, match="nothing to fine-tune"):
        finetune(qann, shifted)
    with pytest.raises(ConversionError, match="has no activation of this name"):
        finetune(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), snn)
    with pytest.raises(ConversionError, match="the data is empty"):
        finetune(qann, snn, [])
    with pytest.raises(TypeError, match=r"that snnconv\.convert made"):
        finetune(qann, qann)
    with pytest.raises(ValueError, match="at least 1"):
        finetune(qann, snn, epochs=0)


def test_it_is_exported_lazily():
    assert snnconv.finetune_layerwise is sys.modules["snnconv.training.finetune"].finetune_layerwise
