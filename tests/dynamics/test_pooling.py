"""Max-pooling over time: the kernel's bits are the equation's, the sums those of the sums."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import snnconv
from snnconv import dynamics, methods
from snnconv.dynamics.kernels import backends
from snnconv.runtime import stepping

WINDOWS = [
    (2, None, 0, 1, False),
    (3, 2, 1, 1, False),
    (3, 2, 1, 1, True),
    ((2, 3), (1, 2), (1, 0), (2, 1), False),
    (1, 3, 0, 1, False),
    (5, 1, 2, 1, False),
]


def currents(*shape: int, seed: int = 0) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) - 0.3
    return x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, shape[:2])


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 16, 33, 34), (5, 3, 7, 21, 13), (9, 2, 1, 40, 31)], ids=str)
def test_kernel_is_the_equation_bit_for_bit(window: tuple, shape: tuple[int, ...]) -> None:
    pytest.importorskip("numba")
    x = currents(*shape)
    assert x.numel() >= backends.NUMBA_MIN_NUMEL or shape[2] == 1 or shape[0] == 5
    x = torch.cat([x] * 4, 1) if x.numel() < backends.NUMBA_MIN_NUMEL else x
    x = currents(*x.shape)
    fast = dynamics.accumulated_max_pool(x, *window)
    plain = dynamics.accumulated_max_pool(x, *window, backend="eager")
    assert fast.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(fast, plain)
    pooled = F.max_pool2d(x.double().sum(0), *window)
    torch.testing.assert_close(fast.double().sum(0), pooled, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_rows(threads: int) -> None:
    x = currents(4, 2, 16, 64, 64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        fast = dynamics.accumulated_max_pool(x, 3, 2, 1)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(fast, dynamics.accumulated_max_pool(x, 3, 2, 1, backend="eager"))


def test_the_kernel_ran(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    x = currents(4, 2, 16, 32, 32)
    monkeypatch.setattr(F, "max_pool2d", lambda x, *a, **k: torch.empty(1, 16, 16, 16, device="meta"))
    assert dynamics.accumulated_max_pool(x, 2).shape == (4, 2, 16, 16, 16)


@pytest.mark.parametrize("kind", ["bfloat16", "float64", "contiguous", "small", "1d-batch"])
def test_what_the_kernel_does_not_take_is_computed_as_well(kind: str) -> None:
    x = currents(3, 2, 16, 32, 32)
    if kind in ("bfloat16", "float64"):
        x = x.to(getattr(torch, kind))
    if kind == "contiguous":
        x = x.contiguous()
    if kind == "small":
        x = x[..., :4, :4]
    if kind == "1d-batch":
        x = x[:, :1]
    out = dynamics.accumulated_max_pool(x, 2)
    expected = F.max_pool2d(x.double().cumsum(0).flatten(0, 1), 2).unflatten(0, x.shape[:2])
    tolerance = 0.1 if kind == "bfloat16" else 1e-5
    torch.testing.assert_close(out.double().cumsum(0), expected, rtol=tolerance, atol=tolerance)


def test_what_is_no_number_stays() -> None:
    x = currents(3, 2, 16, 32, 32)
    x[1, 0, 3, 5, 5] = x[2, 1, 0, 0, 1] = float("nan")
    fast, plain = (dynamics.accumulated_max_pool(x, 3, 2, 1, backend=b) for b in ("auto", "eager"))
    assert plain.isnan().any()
    assert torch.equal(fast.isnan(), plain.isnan())
    assert torch.equal(fast.nan_to_num(), plain.nan_to_num())


def test_16_bit_sums_do_not_stall() -> None:
    total = dynamics.running_sum(torch.full((600, 1), 0.5, dtype=torch.bfloat16))
    assert total[-1].item() == 300
    assert dynamics.running_sum(torch.ones(3, dtype=torch.bool)).tolist() == [1, 2, 3]


def test_networks_pool_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def counted(x: torch.Tensor, *window: object, backend: str, **settings: object) -> torch.Tensor:
        calls.append(backend)
        return dynamics.accumulated_max_pool(x, *window, backend=backend, **settings)

    monkeypatch.setattr(stepping, "accumulated_max_pool", counted)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    x = torch.randn(2, 3, 20, 20)
    snn = snnconv.convert(model.eval(), methods.SRP(6, pre_timesteps=3), calibration=x, progress=False)
    calls.clear()
    fast = snn(x[:1])
    snn.backend = "eager"
    torch.testing.assert_close(snn(x[:1]), fast, rtol=1e-4, atol=1e-5)
    assert calls == ["auto", "auto", "eager", "eager"]
    *_, (_, streamed) = snn.stream(x[:1])
    torch.testing.assert_close(streamed, fast, rtol=1e-4, atol=1e-5)


def test_gradients_flow_where_they_are_wanted() -> None:
    x = currents(3, 2, 16, 32, 32).requires_grad_()
    dynamics.accumulated_max_pool(x, 2).sum().backward()
    assert x.grad is not None
    assert x.grad.sum() == 3 * 2 * 16 * 16 * 16


def test_a_window_that_is_wrong_says_so() -> None:
    with pytest.raises(RuntimeError, match="pad"):
        dynamics.accumulated_max_pool(currents(3, 2, 16, 32, 32), 2, 2, 5)


def test_sums_go_on_from_before() -> None:
    x = torch.randn(7, 5)
    whole = dynamics.running_sum(x)
    parts = dynamics.running_sum(x[4:], dynamics.running_sum(x[:4])[-1])
    assert torch.equal(whole[4:], parts)
    torch.testing.assert_close(whole, x.cumsum(0))
    leaf = torch.randn(3, requires_grad=True)
    dynamics.running_sum(leaf, torch.ones(())).sum().backward()
    assert leaf.grad.tolist() == [3, 2, 1]
