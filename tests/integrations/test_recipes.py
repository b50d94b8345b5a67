"""SpikingJelly's Converter with this package's recipes gives what `snnconv.convert` gives."""

from __future__ import annotations

import copy
import subprocess
import sys
import threading

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import ann2snn
from spikingjelly.activation_based.ann2snn import converter
from torch import Tensor, nn

import snnconv
from snnconv import methods
from snnconv.activations import RateNorm
from snnconv.graph.capture.fx import source_graph
from snnconv.integrations import recipes
from snnconv.neurons import register

X = torch.rand(16, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def network() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)
    )


class Stubborn(nn.Module):
    """Does not trace, and pads: both of which SpikingJelly's own recipes refuse."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(400, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.conv(F.pad(x, (2, 2, 2, 2))))
        if float(y.detach().sum()) < 0:
            y = -y
        return self.fc(y.flatten(1))


CASES = {
    recipes.IFRecipe: ({}, methods.IF(4)),
    recipes.SignedIFRecipe: ({"eps": 0.01}, methods.SignedIF(4, eps=0.01)),
    recipes.SRPRecipe: ({"pre_timesteps": 2}, methods.SRP(4, 2)),
    recipes.ShiftedThresholdRecipe: ({"thresholds": "max"}, methods.ShiftedThreshold(4, thresholds="max")),
    recipes.LTBRecipe: ({"max_batches": 4}, methods.LocalThresholdBalancing(4, max_batches=4)),
}


@pytest.mark.parametrize("recipe", CASES, ids=lambda r: r.__name__)
def test_a_recipe_converts_as_convert_does(recipe: type[recipes.MethodRecipe]) -> None:
    choices, method = CASES[recipe]
    net = network()
    before = copy.deepcopy(net.state_dict())
    snn = ann2snn.Converter(recipe([X], timesteps=4, progress=False, **choices)).convert(net)
    direct = snnconv.convert(net, method, X, progress=False)
    assert isinstance(snn, snnconv.SpikingNetwork)
    assert snn.method == method
    assert torch.equal(snn(X), direct(X))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_rate_norm_needs_no_data() -> None:
    net = nn.Sequential(nn.Linear(4, 6), RateNorm(), nn.Linear(6, 2))
    rows = torch.randn(32, 4)
    net.train()(rows)
    snn = ann2snn.Converter(recipes.RateNormRecipe(timesteps=64)).convert(net)
    assert torch.equal(snn(rows), snnconv.convert(net, methods.RateNorm(64))(rows))


def test_a_network_that_spikingjelly_cannot_trace_converts() -> None:
    net = Stubborn()
    with pytest.raises(Exception, match=r"."):
        ann2snn.Converter(ann2snn.RateCodingRecipe([X], mode="max")).convert(copy.deepcopy(net))
    snn = ann2snn.Converter(recipes.SignedIFRecipe([X], timesteps=16, progress=False)).convert(net)
    expected = net(X).detach()
    assert float((snn(X) - expected).norm() / expected.norm()) < 0.2


@pytest.mark.parametrize("training", [True, False])
def test_training_modes_come_back(training: bool) -> None:
    net = network().train(training)
    net[1].eval()
    ann2snn.Converter(recipes.IFRecipe([X], progress=False)).convert(net)
    assert net.training is training
    assert not net[1].training
    assert net[0].training is training


def test_the_recipe_follows_the_device() -> None:
    net = network()
    snn = ann2snn.Converter(recipes.IFRecipe([X], progress=False), device="cpu").convert(net)
    assert {t.device.type for t in snn.buffers()} == {"cpu"}
    if torch.cuda.is_available():
        snn = ann2snn.Converter(recipes.IFRecipe([X], progress=False), device="cuda").convert(net)
        assert {t.device.type for t in snn.buffers()} == {"cuda"}
        assert {t.device.type for t in net.parameters()} == {"cpu"}


def test_one_recipe_serves_many_conversions() -> None:
    recipe = recipes.IFRecipe([X], timesteps=4, progress=False)
    converter = ann2snn.Converter(recipe)
    one, two = converter.convert(network()), converter.convert(network())
    assert not torch.equal(one(X), two(X))
    assert not recipe._converted


def test_one_recipe_in_two_threads() -> None:
    recipe = recipes.IFRecipe([X], timesteps=4, progress=False)
    nets = [network(), network()]
    found: dict[int, nn.Module] = {}

    def work(index: int) -> None:
        found[index] = ann2snn.Converter(recipe).convert(nets[index])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, net in enumerate(nets):
        direct = snnconv.convert(net, methods.IF(4), X, progress=False)
        assert torch.equal(found[index](X), direct(X))


def test_tracing_waits_for_spikingjellys() -> None:
    call = nn.Module.__call__
    theirs_in, theirs_out, ours_in = threading.Event(), threading.Event(), threading.Event()

    class Theirs(nn.Module):
        def forward(self, x):
            theirs_in.set()
            theirs_out.wait(60)
            return x

    class Ours(nn.Module):
        def forward(self, x):
            ours_in.set()
            return torch.relu(x)

    threads = [threading.Thread(target=converter._symbolic_trace, args=(Theirs(),))]
    threads.append(threading.Thread(target=source_graph, args=(Ours(),)))
    try:
        threads[0].start()
        assert theirs_in.wait(60)
        threads[1].start()
        assert not ours_in.wait(0.5)
    finally:
        theirs_out.set()
        for thread in threads:
            thread.join()
    assert ours_in.is_set()
    assert nn.Module.__call__ is call


def test_spikingjellys_tracing_waits_for_a_recipes_calibration() -> None:
    traced, waited = threading.Event(), []

    def other() -> None:
        converter._symbolic_trace(nn.Identity())
        traced.set()

    class Loader:
        def __iter__(self):
            if not waited:
                threads.append(threading.Thread(target=other))
                threads[0].start()
            waited.append(not traced.wait(0.5))
            yield X

    threads: list[threading.Thread] = []
    snn = ann2snn.Converter(recipes.IFRecipe(Loader(), timesteps=4, progress=False)).convert(network())
    threads[0].join()
    assert all(waited)
    assert traced.is_set()
    assert snn(X).isfinite().all()


def test_choices_are_checked_when_the_recipe_is_made() -> None:
    with pytest.raises(ValueError, match="timesteps must be at least 1"):
        recipes.IFRecipe([X], timesteps=0)
    with pytest.raises(TypeError, match="tau"):
        recipes.SignedIFRecipe([X], tau=3)
    with pytest.raises(TypeError, match="pre_timesteps"):
        recipes.SRPRecipe([X])


def test_strict_is_passed_on() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.SiLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 2))
    with pytest.raises(snnconv.ConversionError, match="strict=True"):
        ann2snn.Converter(recipes.IFRecipe(torch.randn(8, 4), strict=True)).convert(net)


def test_a_failed_conversion_leaves_nothing_behind() -> None:
    recipe = recipes.IFRecipe([torch.full_like(X, torch.nan)], progress=False)
    with pytest.raises(snnconv.ConversionError, match="NaN"):
        ann2snn.Converter(recipe).convert(network())
    assert not recipe._converted


def test_register_puts_the_recipes_into_ann2snn() -> None:
    own = ann2snn.LocalThresholdBalancingRecipe
    register()
    register()
    for name in ("IF", "SignedIF", "SRP", "ShiftedThreshold", "LTB", "RateNorm"):
        assert getattr(ann2snn, f"{name}Recipe") is getattr(recipes, f"{name}Recipe")
        assert ann2snn.__all__.count(f"{name}Recipe") == 1
    assert ann2snn.LocalThresholdBalancingRecipe is own


def test_importing_the_neurons_does_not_import_ann2snn() -> None:
    code = (
        "import sys, snnconv.neurons; sys.exit(any(m.endswith(('.ann2snn', '.neurons.recipes')) for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
