"""PyTorch's activation functions as activation kinds, a record each: the function, where it turns, its bounds.

Each is computed by PyTorch's own operator in the precision of its input; given float64 it is the definition that
neurons are tested against. Places of extrema are those of exact arithmetic, to the last digit of float64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconv.graph.activation import Activation, ReLU, register_activation

__all__ = [
    "CELU", "ELU", "GELU", "SELU", "Clamp", "Hardsigmoid", "Hardswish", "Identity", "LeakyReLU", "LogSigmoid", "Mish",
    "PReLU", "SiLU", "Sigmoid", "Softplus", "Softsign", "Tanh",
]  # fmt: skip

SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


@dataclass(frozen=True)
class Identity(Activation):
    """f(z) = z: what an encoder computes; ``nonnegative``: of values that are, or of those that are.

    >>> Identity().signed, Identity(nonnegative=True).signed
    (True, False)
    """

    name = "identity"
    extrema = ()
    linear = True
    encodes = True

    nonnegative: bool = False

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        return (0.0 if self.nonnegative else -math.inf), math.inf

    def f(self, z: Tensor) -> Tensor:
        return z.clamp(min=0) if self.nonnegative else z


@dataclass(frozen=True)
class Clamp(Activation):
    """min(max(z, ``low``), ``high``): Hardtanh, clamps of any bounds.

    >>> Clamp(-1.0, 1.0)(torch.tensor([-2.0, 0.5])), Clamp(-1.0, 1.0).bounds
    (tensor([-1.0000,  0.5000]), (-1.0, 1.0))
    """

    name = "clamp"
    extrema = ()

    low: float | None = None
    high: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        return -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high

    def f(self, z: Tensor) -> Tensor:
        return z.clamp(self.low, self.high)


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """z for z > 0, else ``slope``·z.

    >>> LeakyReLU(0.1).extrema, LeakyReLU(-0.5).extrema
    ((), (0.0,))
    """

    name = "leaky_relu"

    slope: float = 0.01

    @property
    def extrema(self) -> tuple[float, ...]:  # type: ignore[override]
        """Places where f turns."""
        return () if self.slope >= 0 else (0.0,)

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        return (-math.inf if self.slope > 0 else 0.0), math.inf

    def f(self, z: Tensor) -> Tensor:
        return F.leaky_relu(z, self.slope)


@dataclass(frozen=True, eq=False)
class PReLU(Activation):
    """z for z > 0, else ``slope``·z, with one slope or one a channel (on axis 1)."""

    name = "prelu"

    slope: Tensor

    @property
    def extrema(self) -> tuple[float, ...]:  # type: ignore[override]
        """Places where f turns."""
        return () if bool((self.slope >= 0).all()) else (0.0,)

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        return (-math.inf if bool((self.slope > 0).any()) else 0.0), math.inf

    def f(self, z: Tensor) -> Tensor:
        return torch.where(z > 0, z, self.slope * z)


@dataclass(frozen=True)
class ELU(Activation):
    """z for z > 0, else ``alpha``·(exp z − 1)."""

    name = "elu"
    extrema = ()

    alpha: float = 1.0

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        return -self.alpha, math.inf

    def f(self, z: Tensor) -> Tensor:
        return F.elu(z, self.alpha)


@dataclass(frozen=True)
class CELU(Activation):
    """z for z > 0, else ``alpha``·(exp(z/``alpha``) − 1)."""

    name = "celu"
    extrema = ()

    alpha: float = 1.0

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        return -self.alpha, math.inf

    def f(self, z: Tensor) -> Tensor:
        return F.celu(z, self.alpha)


@dataclass(frozen=True)
class SELU(Activation):
    """λ·ELU with the constants of self-normalising networks (Klambauer et al., NeurIPS 2017)."""

    name = "selu"
    extrema = ()
    bounds = (-SELU_SCALE * SELU_ALPHA, math.inf)

    def f(self, z: Tensor) -> Tensor:
        return F.selu(z)


@dataclass(frozen=True)
class SiLU(Activation):
    """z·σ(z)."""

    name = "silu"
    extrema = (-1.2784645427610738,)
    bounds = (-0.27846454276107380, math.inf)

    def f(self, z: Tensor) -> Tensor:
        return F.silu(z)


@dataclass(frozen=True)
class GELU(Activation):
    """z·Φ(z), or with ``approximate="tanh"`` z/2·(1 + tanh(√(2/π)·(z + 0.044715·z³)))."""

    name = "gelu"
    TURN: ClassVar[dict[str, tuple[float, float]]] = {
        "none": (-0.75179152469356446, -0.16997120747990367),
        "tanh": (-0.75246142207101626, -0.17004075057125405),
    }

    approximate: str = "none"

    @property
    def extrema(self) -> tuple[float, ...]:  # type: ignore[override]
        """Places where f turns."""
        return (self.TURN[self.approximate][0],)

    @property
    def bounds(self) -> tuple[float, float]:  # type: ignore[override]
        return self.TURN[self.approximate][1], math.inf

    def f(self, z: Tensor) -> Tensor:
        return F.gelu(z, approximate=self.approximate)


@dataclass(frozen=True)
class Hardswish(Activation):
    """z·min(max(z + 3, 0), 6)/6."""

    name = "hardswish"
    extrema = (-1.5,)
    bounds = (-0.375, math.inf)

    def f(self, z: Tensor) -> Tensor:
        return F.hardswish(z)


@dataclass(frozen=True)
class Hardsigmoid(Activation):
    """min(max(z + 3, 0), 6)/6."""

    name = "hardsigmoid"
    extrema = ()
    bounds = (0.0, 1.0)

    def f(self, z: Tensor) -> Tensor:
        return F.hardsigmoid(z)


@dataclass(frozen=True)
class Sigmoid(Activation):
    """1/(1 + exp(−z))."""

    name = "sigmoid"
    extrema = ()
    bounds = (0.0, 1.0)

    def f(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z)


@dataclass(frozen=True)
class LogSigmoid(Activation):
    """−log(1 + exp(−z))."""

    name = "logsigmoid"
    extrema = ()
    bounds = (-math.inf, 0.0)

    def f(self, z: Tensor) -> Tensor:
        return F.logsigmoid(z)


@dataclass(frozen=True)
class Tanh(Activation):
    """tanh z."""

    name = "tanh"
    extrema = ()
    bounds = (-1.0, 1.0)

    def f(self, z: Tensor) -> Tensor:
        return torch.tanh(z)


@dataclass(frozen=True)
class Softsign(Activation):
    """z/(1 + |z|)."""

    name = "softsign"
    extrema = ()
    bounds = (-1.0, 1.0)

    def f(self, z: Tensor) -> Tensor:
        return F.softsign(z)


@dataclass(frozen=True)
class Mish(Activation):
    """z·tanh(log(1 + exp z))."""

    name = "mish"
    extrema = (-1.1924312145154952,)
    bounds = (-0.30884341301725041, math.inf)

    def f(self, z: Tensor) -> Tensor:
        return F.mish(z)


@dataclass(frozen=True)
class Softplus(Activation):
    """log(1 + exp(``beta``·z))/``beta``, without the jump that PyTorch's has where it goes over to z."""

    name = "softplus"
    extrema = ()
    bounds = (0.0, math.inf)

    beta: float = 1.0

    def f(self, z: Tensor) -> Tensor:
        return torch.logaddexp(self.beta * z, torch.zeros_like(z)) / self.beta


for _kind in (
    Identity, Clamp, LeakyReLU, PReLU, ELU, CELU, SELU, SiLU, GELU, Hardswish, Hardsigmoid, Sigmoid, LogSigmoid, Tanh,
    Softsign, Mish, Softplus,
):  # fmt: skip
    register_activation(_kind)


# --- of the arguments of PyTorch's operators -------------------------------------------------------------


def clamped(low: Any, high: Any) -> Activation | None:
    """The kind that clips to these bounds; ``None`` for bounds that are no numbers.

    A lower bound above zero alone guards a division or a logarithm, and is none.

    >>> clamped(0, 6), clamped(-1, 1), clamped(1e-6, None)
    (ReLU(cap=6.0), Clamp(low=-1.0, high=1.0), None)
    """
    numeric = all(b is None or (isinstance(b, (int, float)) and not isinstance(b, bool)) for b in (low, high))
    if not numeric or (low is None and high is None) or (low is not None and high is not None and low >= high):
        return None
    if low == 0:
        return ReLU(None if high is None else float(high))
    if high is None and low > 0:
        return None
    return Clamp(None if low is None else float(low), None if high is None else float(high))


def leaky(given: Mapping[str, Any]) -> Activation | None:
    """``leaky_relu(input, negative_slope)``."""
    slope = given.get("negative_slope", 0.01)
    return LeakyReLU(float(slope)) if isinstance(slope, (int, float)) else None


def randomly_leaky(given: Mapping[str, Any]) -> Activation | None:
    """``rrelu`` in evaluation: the middle of its slopes."""
    lower, upper = given.get("lower", 1 / 8), given.get("upper", 1 / 3)
    if given.get("training") or not all(isinstance(v, (int, float)) for v in (lower, upper)):
        return None
    return LeakyReLU((lower + upper) / 2)


def parametric(given: Mapping[str, Any]) -> Activation | None:
    """``prelu(input, weight)``, the weight a tensor."""
    slope = given.get("weight")
    return PReLU(slope.detach().clone().flatten()) if isinstance(slope, Tensor) else None


def exponential(kind: type[ELU] | type[CELU]) -> Any:
    """``elu(input, alpha)`` and its like."""

    def of(given: Mapping[str, Any]) -> Activation | None:
        alpha = given.get("alpha", 1.0)
        plain = given.get("scale", 1.0) == 1.0 and given.get("input_scale", 1.0) == 1.0
        return kind(float(alpha)) if plain and isinstance(alpha, (int, float)) and alpha > 0 else None

    return of


def softplus(given: Mapping[str, Any]) -> Activation | None:
    """``softplus(input, beta, threshold)``; one that goes over to z early has a jump, and is none."""
    beta, threshold = given.get("beta", 1.0), given.get("threshold", 20.0)
    if not all(isinstance(v, (int, float)) for v in (beta, threshold)) or beta <= 0 or threshold < 15:
        return None
    return Softplus(float(beta))


def over_zero(given: Mapping[str, Any]) -> Activation | None:
    """``threshold(input, 0, 0)``."""
    return ReLU() if (given.get("threshold"), given.get("value")) == (0, 0) else None
