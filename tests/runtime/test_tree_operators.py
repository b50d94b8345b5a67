"""A forward that runs call by call, over time: every operator, changes in place, decisions, what is refused."""

from __future__ import annotations

import copy
import dataclasses
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import snnconv
from snnconv import ConversionError, methods
from snnconv.runtime.readout import behind, window_mean
from snnconv.runtime.run import RunState
from snnconv.runtime.tree import TreeProgram

Body = Callable[["Net", Tensor], Any]
ROWS = torch.randn(6, 5, generator=torch.Generator().manual_seed(1))
TOKENS = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(2))
IMAGES = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(3))


class Net(nn.Module):
    """One hidden layer of ReLUs and whatever ``body`` does with what they say; does not trace."""

    def __init__(self, body: Body, x: Tensor) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = body
        width = x.shape[1] if x.dim() == 4 else x.shape[-1]
        self.a = nn.Conv2d(width, 8, 3, padding=1) if x.dim() == 4 else nn.Linear(width, 8)
        self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 3)
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.norm = nn.InstanceNorm2d(8)
        self.drop = nn.Dropout()
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.register_buffer("held", torch.zeros(6, 8))

    def forward(self, x: Tensor) -> Any:
        if not bool(torch.isfinite(x).all()):
            raise ValueError("broken input")
        return self.body(self, x)


def hidden(net: Net, x: Tensor) -> Tensor:
    return F.relu(net.a(x))


class Swinging:
    """Neurons whose mean over four steps is the activation, silent at the first step."""

    def __init__(self) -> None:
        self.clock: dict[str, int] = {}

    def __call__(self, site: str, x_seq: Tensor) -> Tensor:
        start = self.clock.get(site, 0)
        self.clock[site] = start + len(x_seq)
        swing = torch.tensor([0.0, 1.5, 0.5, 2.0])[start : start + len(x_seq)]
        return x_seq.clamp(min=0) * swing.reshape(-1, *[1] * (x_seq.dim() - 1))


def over_steps(model: nn.Module, x: Any, chunks: tuple[int, ...] = (4,), **options: Any) -> Any:
    program, state, neuron = TreeProgram(model, x, **options), RunState(), Swinging()
    return behind(*[program.steps(x, n, neuron, state) for n in chunks])


def written(net: Net, x: Tensor, change: Callable[[Tensor, Tensor], Any]) -> Tensor:
    h = hidden(net, x)
    change(h, net.b(h))
    return net.c(h)


OPERATORS: dict[str, tuple[Body, Tensor]] = {
    "max over points": (lambda s, x: s.c(hidden(s, x).max(1)[0]), TOKENS),
    "torch.max": (lambda s, x: s.c(torch.max(hidden(s, x), 1)[0]), TOKENS),
    "amax": (lambda s, x: s.c(hidden(s, x).amax(1)), TOKENS),
    "division by the norm": (lambda s, x: s.c(hidden(s, x) / hidden(s, x).norm(dim=1, keepdim=True)), ROWS),
    "F.normalize": (lambda s, x: s.c(F.normalize(hidden(s, x))), ROWS),
    "std": (lambda s, x: s.c(hidden(s, x).std(1)), TOKENS),
    "var_mean": (lambda s, x: s.c(torch.var_mean(hidden(s, x), 1)[0]), TOKENS),
    "sqrt": (lambda s, x: s.c(torch.sqrt(hidden(s, x) + 0.01)), ROWS),
    "log of what is zero at first": (lambda s, x: s.c(torch.log(hidden(s, x).sum(1)[:, None]) * s.c.weight[0]), ROWS),
    "one by the sum": (lambda s, x: s.c(hidden(s, x) * (1 / hidden(s, x).sum(1, keepdim=True))), ROWS),
    "where": (lambda s, x: s.c((lambda h: torch.where(h > 0, h, 0.1 * h))(s.b(hidden(s, x)))), ROWS),
    "maximum": (lambda s, x: s.c(torch.maximum(s.b(hidden(s, x)), torch.zeros(()))), ROWS),
    "sort": (lambda s, x: s.c(torch.sort(hidden(s, x), 1)[0]), ROWS),
    "topk": (lambda s, x: s.c.weight @ hidden(s, x).topk(8, 1).values.T, ROWS),
    "take by an index that changes": (lambda s, x: s.c(hidden(s, x).gather(1, hidden(s, x).argsort(1))), ROWS),
    "logsumexp": (lambda s, x: s.c(torch.logsumexp(hidden(s, x), 1)), TOKENS),
    "attention by bmm": (
        lambda s, x: (lambda h: s.c(torch.bmm(torch.softmax(torch.bmm(s.b(h), h.mT), -1), h)))(hidden(s, x)),
        TOKENS,
    ),
    "attention, masked by -inf": (
        lambda s, x: (
            lambda h: s.c(torch.softmax((h @ h.mT).masked_fill(torch.ones(4, 4).triu(1).bool(), -torch.inf), -1) @ h)
        )(hidden(s, x)),
        TOKENS,
    ),
    "attention, a mask of -inf added": (
        lambda s, x: (
            lambda h: s.c(torch.softmax(h @ h.mT + torch.full((4, 4), -torch.inf).triu(1), -1) @ h)
        )(hidden(s, x)),
        TOKENS,
    ),
    "scaled_dot_product_attention": (
        lambda s, x: (lambda h: s.c(F.scaled_dot_product_attention(h, h, h, is_causal=True)))(hidden(s, x)),
        TOKENS,
    ),
    "MultiheadAttention": (lambda s, x: (lambda h: s.c(s.attend(h, h, h)[0]))(hidden(s, x)), TOKENS),
    "LSTM": (lambda s, x: s.c(s.lstm(hidden(s, x))[0][:, -1]), TOKENS),
    "a spectrum": (lambda s, x: torch.fft.rfft(hidden(s, x)).abs(), ROWS),
    "einsum of two": (lambda s, x: torch.einsum("bi,cj->bcij", hidden(s, x), hidden(s, x)), ROWS),
    "distances within the batch": (lambda s, x: torch.cdist(hidden(s, x), hidden(s, x)), ROWS),
    "the batch joined and cut": (lambda s, x: s.c(torch.vstack(hidden(s, x).split(2)[::-1])), ROWS),
    "a row of the batch": (lambda s, x: hidden(s, x)[2] * s.b(hidden(s, x))[::2].flip(0), ROWS),
    "the batch as features": (lambda s, x: hidden(s, x).t() @ hidden(s, x), ROWS),
    "instance norm": (lambda s, x: s.norm(hidden(s, x)), IMAGES),
    "max-pooling": (lambda s, x: F.max_pool2d(hidden(s, x), 2), IMAGES),
    "max-pooling with indices": (
        lambda s, x: F.max_unpool2d(*F.max_pool2d(hidden(s, x), 2, return_indices=True), 2),
        IMAGES,
    ),
    "max-pooling of an average": (lambda s, x: F.max_pool2d(F.avg_pool2d(hidden(s, x), 2, 1).softmax(1), 2), IMAGES),
    "patches": (lambda s, x: F.unfold(hidden(s, x), 3).amax(1), IMAGES),
    "sampling of a grid": (
        lambda s, x: F.grid_sample(hidden(s, x), torch.linspace(-1, 1, 96).reshape(3, 4, 4, 2), align_corners=False),
        IMAGES,
    ),
    "view of what is channels-last": (
        lambda s, x: hidden(s, x).contiguous(memory_format=torch.channels_last).flatten(1).cumsum(1),
        IMAGES,
    ),
    "dropout": (lambda s, x: s.c(s.drop(hidden(s, x))), ROWS),
    "a constant of as many rows as steps": (
        lambda s, x: s.c(hidden(s, x) + torch.arange(8.0).sin() * torch.arange(4.0).exp().sum()),
        ROWS,
    ),
    "a constant by the batch": (lambda s, x: s.c(hidden(s, x) * torch.arange(x.shape[0] + 0.0)[:, None].cos()), ROWS),
    "sizes": (lambda s, x: s.c(hidden(s, x)).reshape(x.size(0) // 2, 2, -1).sum(0) / len(x), ROWS),
    "a slice by a size": (lambda s, x: s.c(hidden(s, x)[: x.shape[0] // 2] * hidden(s, x)[x.shape[0] // 2 :]), ROWS),
    "rows one by one": (lambda s, x: torch.stack([s.c(row).softmax(-1) for row in hidden(s, x)]), ROWS),
    "int and back": (lambda s, x: s.c((hidden(s, x) * 4).long().float()), ROWS),
    "sum written in place": (lambda s, x: written(s, x, lambda h, y: h.add_(y)), ROWS),
    "product written in place": (lambda s, x: written(s, x, lambda h, y: h.mul_(y.sigmoid())), ROWS),
    "a view changed": (lambda s, x: written(s, x, lambda h, y: h[:, :4].add_(y[:, 4:])), ROWS),
    "a view of a view changed": (lambda s, x: written(s, x, lambda h, y: h.view(6, 2, 4)[:, 1].mul_(2)), ROWS),
    "a view changed by exp": (lambda s, x: written(s, x, lambda h, y: h[:, :4].copy_(y[:, 4:].exp())), ROWS),
    "a part assigned": (lambda s, x: written(s, x, lambda h, y: h.__setitem__((slice(None), 2), y[:, 0].tanh())), ROWS),
    "a chunk changed": (lambda s, x: written(s, x, lambda h, y: h.chunk(2, 1)[1].sub_(y[:, :4])), ROWS),
    "filled where negative": (lambda s, x: written(s, x, lambda h, y: h.masked_fill_(y < 0, -1)), ROWS),
    "F.silu(inplace=True)": (lambda s, x: written(s, x, lambda h, y: F.silu(h, inplace=True)), ROWS),
    "out=": (lambda s, x: written(s, x, lambda h, y: torch.add(h, y, out=h)), ROWS),
    "zeros filled": (
        lambda s, x: (lambda z, h: [z[:, 2:].copy_(h), s.c(z[:, 1:9])][1])(torch.zeros(6, 10), hidden(s, x)),
        ROWS,
    ),
    "a buffer of its own filled": (lambda s, x: [s.held.add_(hidden(s, x)), s.c(s.held)][1], ROWS),
    "a ReLU in place, its result not used": (lambda s, x: (lambda z: [F.relu_(z), s.c(z)][1])(s.a(x)), ROWS),
    "a ReLU in place on a view": (lambda s, x: (lambda z: [z[:, :4].relu_(), s.c(z)][1])(s.a(x)), ROWS),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
@torch.no_grad()
def test_every_operator_acts_on_the_mean(name: str) -> None:
    body, x = OPERATORS[name]
    model = Net(body, x).eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    wanted = copy.deepcopy(model)(x)
    torch.testing.assert_close(TreeProgram(model, x).static(x, lambda _, z: z.clamp(min=0)), wanted)
    whole = over_steps(model, x)
    torch.testing.assert_close(window_mean(whole, 1, 4), wanted, rtol=1e-3, atol=1e-4)
    for chunks in ((1, 3), (1, 1, 1, 1)):
        cut = over_steps(model, x, chunks)
        for window in ((1, 4), (2, 4), (3, 3)):
            got, expected = window_mean(cut, *window), window_mean(whole, *window)
            torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@torch.no_grad()
def test_in_place_changes_leave_what_neurons_sent_and_read() -> None:
    def body(s: Net, x: Tensor) -> Tensor:
        z = s.a(x)
        h = F.relu(z, inplace=True)
        h += s.b(h)
        return s.c(h)

    model = Net(body, ROWS).eval()
    program = TreeProgram(model, ROWS)
    sent: list[Tensor] = []
    read: list[Tensor] = []

    def keep(site: str, z: Tensor) -> Tensor:
        read.append(z)
        sent.append(z.clamp(min=0))
        return sent[-1]

    program.static(ROWS, keep)
    torch.testing.assert_close(read[0], model.a(ROWS))
    torch.testing.assert_close(sent[0], model.a(ROWS).relu())
    given = ROWS.clone()
    TreeProgram(Net(lambda s, x: s.c(F.relu(s.a(x.sub_(1)))), ROWS), given).static(given, lambda _, z: z)
    assert torch.equal(given, ROWS)


@torch.no_grad()
def test_outputs_that_are_no_floats_and_outputs_without_time() -> None:
    @dataclasses.dataclass
    class Answer:
        scores: Tensor
        best: Tensor
        grid: Tensor
        names: tuple[str, ...]

    def body(s: Net, x: Tensor) -> Answer:
        y = s.c(hidden(s, x))
        return Answer(y, y.argmax(1), torch.arange(5), ("a", "b"))

    model = Net(body, ROWS).eval()
    out, wanted = window_mean(over_steps(model, ROWS), 1, 4), model(ROWS)
    torch.testing.assert_close(out.scores, wanted.scores, rtol=1e-3, atol=1e-4)
    assert torch.equal(out.best, wanted.best)
    assert torch.equal(out.grid, torch.arange(5))
    assert out.names == wanted.names


@torch.no_grad()
def test_an_infinite_output_is_infinite() -> None:
    model = Net(lambda s, x: s.c(hidden(s, x)).masked_fill(torch.tensor([False, True, False]), -torch.inf), ROWS).eval()
    torch.testing.assert_close(window_mean(over_steps(model, ROWS), 1, 4), model(ROWS), rtol=1e-3, atol=1e-4)


def test_a_decision_that_is_the_same_at_every_step_stands() -> None:
    def body(s: Net, x: Tensor) -> Tensor:
        h = hidden(s, x)
        if torch.isnan(h).any() or h.max() > 1e6 or float(h.sum()) < -1 or h.amin().item() < 0:
            raise ValueError("broken")
        return s.c(h)

    snn = snnconv.convert(Net(body, ROWS), methods.SignedIF(8), ROWS, progress=False)
    assert snn.report is not None
    assert snn.report.path == "module tree"


class Deciding(nn.Module):
    """Asks its second layer's activations which way to go."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(5, 6), Net(lambda s, x: self.way(s.c(hidden(s, x))), torch.zeros(1, 6))

    @staticmethod
    def way(y: Tensor) -> Tensor:
        return y * 2 if float(y.detach().abs().sum()) > 1e-3 else y

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x)))


def test_a_decision_that_changes_is_refused_before_work() -> None:
    model = Deciding()
    with torch.no_grad():
        model.second.c.bias.zero_()
    with pytest.raises(ConversionError, match=r"second: .*__float__.*changes from step to step.*torch\.where.*Shifted"):
        snnconv.convert(model, methods.IF(8), ROWS, progress=False)
    snn = snnconv.convert(model, methods.ShiftedThreshold(8), ROWS, progress=False)
    torch.testing.assert_close(snn(ROWS), model(ROWS).detach(), rtol=0.05, atol=0.05)


KEPT = torch.zeros(6, 8)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda s, x: s.c(hidden(s, x) / float(hidden(s, x).sum() + 1)), r"the network: .*__float__.*step to step"),
        (lambda s, x: s.c(hidden(s, x))[:, : int(hidden(s, x).sum())], r"the network: .*__int__.*step to step"),
        (lambda s, x: s.c(KEPT.copy_(hidden(s, x))), r"the network: copy_ writes what the network computes.*clone\(\)"),
        (lambda s, x: s.c(hidden(s, x).unsqueeze_(1)), r"the network: unsqueeze_ changes the shape.*x = x\.unsqueeze"),
        (
            lambda s, x: hidden(s, x)[hidden(s, x) > 0],
            r"the network: operator __getitem__ failed: it gives tensors of shapes \(0,\) and .*torch\.where",
        ),
        (lambda s, x: s.c(hidden(s, x)).numpy(), r"the network: .*numpy"),
        (lambda s, x: s.c(hidden(s, x)[:, :5]), r"c: operator linear failed: .*shapes"),
    ],
    ids=["number", "cut", "outside", "shape", "mask", "numpy", "error"],
)  # fmt: skip
def test_what_cannot_be_right_is_refused_by_name(body: Body, message: str) -> None:
    with pytest.raises(ConversionError, match=message), torch.no_grad():
        TreeProgram(Net(body, ROWS), ROWS).check_steps(ROWS)
    assert torch.equal(KEPT, torch.zeros(6, 8))


def test_the_report_lists_what_acts_on_the_running_mean() -> None:
    def body(s: Net, x: Tensor) -> Tensor:
        h = hidden(s, x.sin())
        h = h / h.norm(dim=1, keepdim=True)
        return s.c(F.relu(s.b(s.drop(h)))).softmax(1)

    model = Net(body, ROWS)
    snn = snnconv.convert(model, methods.SignedIF(8), ROWS, progress=False)
    assert snn.report is not None
    listed = {a.operator: (a.reason, a.activation) for a in snn.report.analog}
    assert set(listed) == {"sin", "norm", "div", "softmax"}
    assert listed["sin"][0] == "before the first neuron: computed once, on the analog input"
    assert listed["div"] == ("no spiking equivalent: acts on the running mean of its input", True)
    assert listed["softmax"] == ("at the output: acts on the readout", False)
    with pytest.raises(ConversionError, match=r"strict=True.*\(sin\).*\(norm\).*\(div\)"):
        snnconv.convert(model, methods.SignedIF(8), ROWS, strict=True, progress=False)
    straight = Net(lambda s, x: s.c(s.drop(hidden(s, x)).view(len(x), -1) + 1), ROWS)
    snnconv.convert(straight, methods.SignedIF(8), ROWS, strict=True, progress=False)


def test_an_audit_says_what_it_did_not_check() -> None:
    snn = snnconv.convert(Net(lambda s, x: s.c(hidden(s, x)), ROWS), methods.IF(8), ROWS, progress=False)
    text = str(snnconv.audit(snn, ROWS)).splitlines()
    assert not any("passed" in line for line in text)
    assert text[-1].startswith("not checked in full")
    assert any("what arrives at its layers with weights was not checked (a, c)" in line for line in text)


class Remembering(nn.Module):
    """Writes into itself, as CORnet does with its stride and others with their features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.conv = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.head = nn.ReLU(inplace=True), nn.Linear(4, 3)
        self.features: list[Tensor] = []
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if not bool(torch.isfinite(x).all()):
            raise ValueError("broken input")
        self.calls += 1
        self.features.append(self.act(self.stem(x)))
        for stride in (2, 1):
            self.conv.stride = (stride, stride)
            self.features.append(self.act(self.conv(self.features[-1])))
        self.last = self.head(self.features[-1].mean((2, 3)))
        return self.last * self.calls


@pytest.mark.parametrize(
    "method", [methods.SignedIF(6), methods.ShiftedThreshold(4), methods.SRP(4, 2)], ids=lambda m: m.name
)
def test_four_threads_on_one_network_are_one_thread(method: methods.Method) -> None:
    snn = snnconv.convert(Remembering(), method, IMAGES, progress=False)
    inputs = [torch.randn(3, 2, 8, 8) for _ in range(15)]
    wanted = [snn(x) for x in inputs]
    wrong: list[object] = []

    def work() -> None:
        for x, y in zip(inputs, wanted, strict=True):
            try:
                if not torch.equal(snn(x), y):
                    wrong.append("another value")
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert snn.program.model.conv.stride == (1, 1)
    assert float(snn.program.model.calls) == 0


def test_a_network_that_has_run_pickles_and_copies() -> None:
    snn = snnconv.convert(Remembering(), methods.SignedIF(6), IMAGES, progress=False)
    wanted = snn(IMAGES)
    assert torch.equal(copy.deepcopy(snn)(IMAGES), wanted)
    again = pickle.loads(pickle.dumps(snn.program))
    assert torch.equal(again.static(IMAGES, lambda _, z: z), snn.program.static(IMAGES, lambda _, z: z))
    torch.save(snn.program, io.BytesIO())
    assert len(list(snn.stream(IMAGES))) == 6


def test_biases_move_and_save_with_the_network() -> None:
    snn = snnconv.convert(Remembering(), methods.SignedIF(6), IMAGES, progress=False)
    names = [name for name in snn.state_dict() if ".biases." in name]
    assert len(names) == len(snn.program.biases) == 3
    snn.double()
    assert all(value.dtype == torch.float64 for value in snn.program.biases.values())


def test_channels_stand_where_the_layer_put_them() -> None:
    def body(s: Net, x: Tensor) -> Tensor:
        return s.c(F.relu(s.a(x.flatten(2).mT.reshape(3, 8, 8, 2))))

    program = TreeProgram(Net(body, torch.zeros(1, 2)), IMAGES)
    assert program.sites["relu"].axis == -1
    assert TreeProgram(Net(lambda s, x: hidden(s, x).flatten(2), IMAGES), IMAGES).sites["relu"].axis == 1
