"""run_sequence(): an input that changes from step to step, and neurons that go on."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods

T = 20
RATE = [methods.IF(8), methods.SignedIF(8), methods.LocalThresholdBalancing(8, max_batches=8, delay=None)]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(54, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        return self.head(F.avg_pool2d(F.relu(self.b(x) + x), 2).flatten(1))


def network(method: methods.Method, model: nn.Module | None = None, **options: Any) -> snnconv.SpikingNetwork:
    torch.manual_seed(0)
    model = (Net() if model is None else model).double().eval()
    return snnconv.convert(model, method, frames(32)[0], progress=False, **options)


def frames(batch: int = 4, steps: int = T, seed: int = 1) -> Tensor:
    """Sparse events of both polarities ``[T, B, 2, 6, 6]``."""
    drawn = torch.rand(steps, batch, 2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (drawn > 0.6).double()


@pytest.mark.parametrize("framework", ["spikingjelly", "snntorch"])
@pytest.mark.parametrize("method", RATE, ids=lambda m: m.name)
def test_a_constant_sequence_is_the_call(method: methods.Method, framework: str) -> None:
    snn, x = network(method, framework=framework), frames()[0]
    run = snn.run_sequence(x.expand(method.timesteps, *x.shape))
    torch.testing.assert_close(run.final, snn(x), rtol=1e-9, atol=1e-9)
    for (_, want), got in zip(snn.stream(x), run.readouts, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_spikes_are_those_of_spikingjellys_multi_step_nodes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))
    snn = network(methods.IF(8, correction="none", per_channel=False), model)
    theirs = nn.Sequential(
        layer.Conv2d(2, 4, 3), neuron.IFNode(v_reset=None), layer.Conv2d(4, 4, 3), neuron.IFNode(v_reset=None),
        layer.Flatten(), layer.Linear(16, 3),
    ).double()  # fmt: skip
    theirs.load_state_dict(model.state_dict())
    thetas = {"1": float(snn.thresholds["1"]), "3": float(snn.thresholds["3"])}
    for name, theta in thetas.items():
        theirs[int(name)].v_threshold = theta
    theirs[2].weight.data *= thetas["1"]
    theirs[5].weight.data *= thetas["3"]
    functional.set_step_mode(theirs, "m")
    x_seq, sent, want = frames(), {"1": [], "3": []}, {}
    sizes = {"1": (4, 4, 4, 4), "3": (4, 4, 2, 2)}
    for name, theta in thetas.items():
        theirs[int(name)].v = torch.full(sizes[name], theta / 2, dtype=torch.float64)
        theirs[int(name)].register_forward_hook(lambda m, args, out, name=name: want.__setitem__(name, out))
    out = theirs(x_seq).detach()
    run = snn.run_sequence(x_seq, observe=lambda site, spikes: sent[site].append(spikes[0]))
    for name, theta in thetas.items():
        assert torch.equal(torch.stack(sent[name]) / theta, want[name].detach()), "spike for spike"
    torch.testing.assert_close(run.final, out.mean(0), rtol=1e-9, atol=1e-9)


def test_a_sequence_may_come_in_pieces() -> None:
    snn, x_seq = network(methods.SignedIF(8)), frames()
    whole = snn.run_sequence(x_seq)
    first = snn.run_sequence(x_seq[:7])
    rest = snn.run_sequence(x_seq[7:], reset=False)
    assert torch.equal(torch.cat([first.readouts, rest.readouts]), whole.readouts)
    assert torch.equal(snn.run_sequence(x_seq).readouts, whole.readouts), "reset starts afresh"


def test_each_thread_goes_on_with_its_own_sequence() -> None:
    snn = network(methods.SignedIF(8))
    inputs = [frames(seed=seed) for seed in range(4)]
    wanted = [snn.run_sequence(x).final for x in inputs]
    found: dict[int, Tensor] = {}

    def work(number: int) -> None:
        x = inputs[number]
        for start in range(0, T, 5):
            found[number] = snn.run_sequence(x[start : start + 5], reset=start == 0).final

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, want in enumerate(wanted):
        torch.testing.assert_close(found[number], want, rtol=1e-12, atol=1e-12)


def test_a_window_forgets_what_is_older() -> None:
    snn, x_seq = network(methods.SignedIF(8)), frames()
    one, five = snn.run_sequence(x_seq, window=1).readouts, snn.run_sequence(x_seq, window=5).readouts
    torch.testing.assert_close(five[9], one[5:10].mean(0), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(snn.run_sequence(x_seq).readouts[9], one[:10].mean(0), rtol=1e-9, atol=1e-9)


def test_the_answer_comes_to_that_of_the_mean_frame() -> None:
    snn, x_seq = network(methods.SignedIF(8, thresholds="max", correction="none")), frames(steps=400)
    torch.manual_seed(0)
    want = Net().double()(x_seq.mean(0)).detach()
    early, late = (float((snn.run_sequence(x_seq[:n]).final - want).norm() / want.norm()) for n in (20, 400))
    assert late < 0.1
    assert late < early


def test_sum_coding_codes_every_frame_anew_and_says_so() -> None:
    snn, x_seq = network(methods.ShiftedThreshold(4)), frames()
    run = snn.run_sequence(x_seq)
    assert run.each_frame
    each = torch.stack([snn(x) for x in x_seq])
    torch.testing.assert_close(run.readouts, each.cumsum(0) / torch.arange(1, T + 1).reshape(-1, 1, 1))
    torch.testing.assert_close(snn.run_sequence(x_seq, window=1).readouts, each)


def test_samples_that_are_not_finite_stay_so() -> None:
    snn, x_seq = network(methods.SignedIF(8)), frames()
    x_seq[3, 1, 0, 0, 0] = torch.nan
    readouts = snn.run_sequence(x_seq).readouts
    assert bool(torch.isfinite(readouts[:3]).all())
    assert bool(readouts[3:, 1].isnan().all())
    assert bool(torch.isfinite(readouts[:, [0, 2, 3]]).all())


def test_what_cannot_follow_a_sequence_is_refused() -> None:
    x_seq = frames()
    with pytest.raises(ConversionError, match="SRP cannot follow a sequence: its first phase"):
        network(methods.SRP(4, 3)).run_sequence(x_seq)
    with pytest.raises(ConversionError, match="its delay is defined for a constant input"):
        network(methods.IF(8, delay=2)).run_sequence(x_seq)
    snn = network(methods.SignedIF(8))
    with pytest.raises(ValueError, match="of T frames above 0"):
        snn.run_sequence(x_seq[:0])
    with pytest.raises(ValueError, match="window must be a whole number"):
        snn.run_sequence(x_seq, window=0)
    with pytest.raises(ValueError, match="has run none"):
        network(methods.SignedIF(8)).run_sequence(x_seq, reset=False)
    snn.run_sequence(x_seq)
    with pytest.raises(ConversionError, match="starts afresh"):
        snn.run_sequence(x_seq[:, :2], reset=False)


@pytest.mark.parametrize("method", [methods.SignedIF(4), methods.ShiftedThreshold(4)], ids=lambda m: m.name)
def test_a_batch_without_time_is_said_to_have_been_read_as_a_sequence(method: methods.Method) -> None:
    snn = network(method)
    with pytest.raises(ConversionError, match=r"a frame of \[4, 2, 6, 6\], read as a sequence \[T, B, "):
        snn.run_sequence(frames()[0])
