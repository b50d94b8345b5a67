"""convert(..., input="sequence"): calls, streams, early exit and evaluation take recordings, a frame a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods

T = 24


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)).eval()


def frames(batch: int = 16, steps: int = T, seed: int = 1) -> Tensor:
    """Sparse events of both polarities ``[T, B, 2, 6, 6]``, of other rates from sample to sample."""
    drawn = torch.Generator().manual_seed(seed)
    rates = torch.rand(1, batch, 2, 6, 6, generator=drawn)
    return (torch.rand(steps, batch, 2, 6, 6, generator=drawn) < rates).float()


def converted(method: methods.Method = methods.SignedIF(T)) -> snnconv.SpikingNetwork:  # noqa: B008
    return snnconv.convert(model(), method, frames(), progress=False, input="sequence")


def test_calls_and_streams_take_recordings() -> None:
    snn, x_seq = converted(), frames(seed=2)
    assert snn.input == "sequence"
    run = snn.run_sequence(x_seq)
    assert torch.equal(snn(x_seq), run.final)
    streamed = dict(snn.stream(x_seq))
    assert list(streamed) == list(range(1, T + 1))
    assert torch.equal(torch.stack(list(streamed.values())), run.readouts)


def test_steps_are_computed_as_they_are_asked_for() -> None:
    snn, seen = converted(), []
    x_seq = frames(seed=2)
    snn.program.executor.observers.append(lambda node, value: seen.append(node.name))  # type: ignore[union-attr]
    steps = snn.stream(x_seq)
    next(steps)
    one = len(seen)
    next(steps)
    assert len(seen) == 2 * one


def test_calibration_is_on_single_frames_in_either_order_of_axes() -> None:
    x_seq = frames()
    snn = converted()
    by_hand = snnconv.convert(model(), methods.SignedIF(T), x_seq.flatten(0, 1), progress=False)
    samples_first = [(part, torch.zeros(len(part))) for part in x_seq.transpose(0, 1).split(8)]
    loaded = snnconv.convert(model(), methods.SignedIF(T), samples_first, progress=False, input="sequence")
    for name, theta in by_hand.thresholds.items():
        torch.testing.assert_close(snn.thresholds[name], theta)
        torch.testing.assert_close(loaded.thresholds[name], theta, rtol=1e-3, atol=1e-4)
    assert snn.input_spec["shape"] == [2, 6, 6]


def test_a_sequence_of_the_mean_frame_calibrates_for_the_end() -> None:
    x_seq = frames()
    snn = snnconv.convert(model(), methods.SignedIF(T), x_seq.mean(0, keepdim=True), progress=False, input="sequence")
    want = model()(x_seq.mean(0)).detach()
    assert float((snn(x_seq) - want).norm() / want.norm()) < 0.1


def test_it_is_saved_and_loaded(tmp_path: Path) -> None:
    snn, x_seq = converted(), frames(seed=2)
    snnconv.save(snn, tmp_path / "a.snn.safetensors")
    loaded = snnconv.load(tmp_path / "a.snn.safetensors")
    assert loaded.input == "sequence"
    assert torch.equal(loaded(x_seq), snn(x_seq))


@pytest.mark.parametrize("rule", [{"margin": 0.05}, {"margin": 1e9}])
def test_early_exit_over_time_reads_what_the_stream_says_then(rule: dict[str, float]) -> None:
    snn, x_seq = converted(), frames(40, seed=3)
    readouts = snn.run_sequence(x_seq).readouts
    found = snn.early_exit(x_seq, every=4, at_least=4, **rule)
    assert (found.average_steps < T) == (rule["margin"] < 1)
    for sample, step in enumerate(found.steps.tolist()):
        torch.testing.assert_close(found.output[sample], readouts[step - 1, sample], rtol=1e-4, atol=1e-5)
        best = readouts[step - 1, sample].topk(2).values
        assert step == T or float(best[0] - best[1]) >= rule["margin"]


def test_evaluate_takes_samples_first_and_scores_each_frame() -> None:
    x_seq = frames(64, seed=4)
    labels = model()(x_seq.mean(0)).argmax(1)
    found = snnconv.evaluate(converted(), (x_seq.transpose(0, 1), labels), model=model())
    assert found.ann == 100.0, "the source network on the mean frame"
    assert list(found.curve) == list(range(1, T + 1))
    assert found.final > 90
    readouts = converted().run_sequence(x_seq).readouts
    for t in (1, 7, T):
        assert found.curve[t] == pytest.approx(100 * float((readouts[t - 1].argmax(1) == labels).float().mean()))


def test_sum_coding_answers_frame_by_frame() -> None:
    snn, x_seq = converted(methods.ShiftedThreshold(5)), frames(seed=5)
    plain = snnconv.convert(model(), methods.ShiftedThreshold(5), frames().flatten(0, 1), progress=False)
    torch.testing.assert_close(snn(x_seq), torch.stack([plain(x) for x in x_seq]).mean(0))
    labels = model()(x_seq.flatten(0, 1)).unflatten(0, x_seq.shape[:2]).mean(0).argmax(1)
    assert snnconv.evaluate(snn, (x_seq.transpose(0, 1), labels), model=model()).ann == 100.0


def test_what_cannot_follow_is_refused_before_any_work() -> None:
    with pytest.raises(ConversionError, match="SRP cannot follow a sequence: its first phase"):
        converted(methods.SRP(8, 4))
    with pytest.raises(ConversionError, match="its delay is defined for a constant input"):
        converted(methods.IF(8, delay="auto"))
    with pytest.raises(ConversionError, match="differential coding"):
        converted(methods.MultiThreshold(8))
    with pytest.raises(ValueError, match="input must be one of"):
        snnconv.convert(model(), methods.IF(8), frames(), input="events")
    with pytest.raises(ConversionError, match=r"a sequence is \[T, B, ...\] or \[B, T, ...\], got \[4, 9\]"):
        snnconv.convert(model(), methods.IF(8), torch.zeros(4, 9), input="sequence")
    with pytest.raises(ConversionError, match=r"early exit over time takes one input \[T, B, ...\]"):
        converted().early_exit(torch.zeros(3, 2), margin=1.0)


def test_what_takes_single_frames_says_what_takes_a_recording() -> None:
    snn, x_seq = converted(), frames(batch=3)
    wanted = r"wrong input shape .*\[B, 2, 6, 6\]; a recording .* snn\.run_sequence\(x_seq\).*x_seq\.flatten\(0, 1\)"
    for call in (snn.rates, lambda x: snnconv.audit(snn, x), lambda x: snnconv.profile(None, snn, x)):
        with pytest.raises(ConversionError, match=wanted):
            call(x_seq)
    assert snnconv.audit(snn, x_seq.flatten(0, 1)[:8])
