"""Accuracy of a network whose output has names: the class scores are what it calls ``logits``."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import snnconv
from snnconv import methods


class Scored(NamedTuple):
    logits: Tensor
    hidden: Tensor


class Network(nn.Module):
    """Two layers whose output is what ``answer`` makes of class scores and of the hidden layer."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.first, self.last, self.answer = nn.Linear(8, 24), nn.Linear(24, 4), answer

    def forward(self, x: Tensor) -> Any:
        hidden = self.first(x).relu()
        return self.answer(self.last(hidden), hidden)


def network(answer: Any) -> Network:
    torch.manual_seed(0)
    return Network(answer).eval()


X = torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
Y = network(lambda scores, hidden: scores)(X).argmax(1)
ANSWERS = [Scored, lambda scores, hidden: {"hidden": hidden, "logits": scores}]


@pytest.mark.parametrize("answer", ANSWERS, ids=["named tuple", "dictionary"])
def test_evaluate_scores_the_logits(answer: Any) -> None:
    plain, named = network(lambda scores, hidden: scores), network(answer)
    expected, found = (
        snnconv.evaluate(snnconv.convert(model, methods.SignedIF(4), X, progress=False), (X, Y), model=model)
        for model in (plain, named)
    )
    assert found.ann == 100.0
    assert found.curve == expected.curve


@pytest.mark.parametrize("answer", ANSWERS, ids=["named tuple", "dictionary"])
@pytest.mark.parametrize("data", [(X, Y), X], ids=["labels", "agreement"])
def test_recommend_scores_the_logits(answer: Any, data: Any) -> None:
    found = snnconv.recommend(network(answer), data, "T=4", methods=[methods.SignedIF(4)], progress=False)
    assert found.ann == 100.0
    assert found.method == methods.SignedIF(4)


def test_an_output_without_class_scores_is_told_what_helps() -> None:
    model = network(lambda scores, hidden: {"scores": scores})
    snn = snnconv.convert(model, methods.SignedIF(4), X, progress=False)
    with pytest.raises(snnconv.ConversionError, match="the one that it names logits: give metric="):
        snnconv.evaluate(snn, (X, Y))
    found = snnconv.evaluate(snn, (X, Y), lambda output, y: (output.scores.argmax(1) == y).float(), model=None)
    assert found.final > 0.8
