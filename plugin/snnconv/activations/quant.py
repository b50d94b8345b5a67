"""Uniformly quantised activation with a learned clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from snnconv.dynamics.function import evaluate
from snnconv.graph.activation import Activation, Quantised, QuantisedFunction, QuantisedSigned
from snnconv.graph.functions import Identity
from snnconv.graph.source import Site, broadcast
from snnconv.graph.trained import TrainedActivation

__all__ = ["QCFS", "QuantFunction", "QuantReLU", "QuantSigned", "quantised", "straight_through"]

CHUNK = 2**17  # values that stay in a processor's cache from one operator to the next
LEAST = 1e-6
MARGINS = {"lsq": 0.0, "qcfs": 0.5}  # steps α/L beyond 0 and the clip in which the gradient passes


def chunks(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Matching pieces along dimension 0, of a size that a processor's cache holds; on an accelerator all at once.

    >>> [len(a) for a, b in chunks(torch.zeros(3, 2**16), torch.zeros(3, 2**16))]
    [2, 1]
    """
    first = tensors[0]
    if torch.compiler.is_compiling() or first.device.type != "cpu" or first.dim() < 2 or not first.numel():
        return [tensors]  # a compiler fuses the operators itself
    rows = max(1, CHUNK * len(first) // first.numel())
    return list(zip(*(t.split(rows) for t in tensors), strict=True))


class _Quantise(torch.autograd.Function):
    """Forward of :class:`QuantReLU`; backward, straight through for z and the gradient that follows for the clip."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, clip: Tensor, levels: int, grad_scale: float, margin: float, signed: bool
    ) -> Tensor:
        wide = torch.promote_types(z.dtype, torch.float32)
        clip = clip.to(wide)
        lsb, lowest = clip / levels, -levels if signed else 0
        out = torch.empty_like(z)
        for part, target in chunks(z, out):
            work = target if wide == z.dtype else torch.empty_like(part, dtype=wide)
            torch.mul(part, levels, out=work)
            work.div_(clip).add_(0.5).floor_().clamp_(lowest, levels).mul_(lsb)
            if work is not target:
                target.copy_(work)
        ctx.save_for_backward(z, clip, out)
        ctx.grad_scale, ctx.margin, ctx.signed = grad_scale, margin / levels, signed
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        z, clip, out = ctx.saved_tensors
        high = (1 + ctx.margin) * clip
        low = -high if ctx.signed else -ctx.margin * clip
        grad_z = torch.empty_like(z)
        wanted = ctx.needs_input_grad[1]
        plain = clip.dim() == 0 and z.device.type == "cpu" and z.dtype == clip.dtype
        numbers = (float(low), float(high)) if plain and not torch.compiler.is_compiling() else None
        slopes = torch.zeros_like(clip)
        for z_, out_, grad_, target in chunks(z, out, grads[0], grad_z):
            above = _split(grad_, z_, low, high, numbers, target)
            if wanted:  # d out / d clip: (y − z)/clip inside, 1 above, 0 or −1 below (LSQ, arXiv 1902.08153, eq. 3)
                inside = torch.sub(out_.to(clip.dtype), z_).mul_(target)
                slopes += inside.sum_to_size(clip.shape) / clip + above().sum_to_size(clip.shape)
                if ctx.signed:
                    slopes -= (grad_ * (z_ <= low.reshape(low.shape or [1] * z_.dim()))).sum_to_size(clip.shape)
        return grad_z, slopes * ctx.grad_scale if wanted else None, None, None, None, None


def _split(
    grad: Tensor, z: Tensor, low: Tensor, high: Tensor, numbers: tuple[float, float] | None, inside: Tensor
) -> Callable[[], Tensor]:
    """Write the gradient where low < z < high to ``inside``; the function gives it where z lies above.

    Bounds that are plain ``numbers`` have operators that need one pass over memory.
    """
    if numbers is not None:
        torch.ops.aten.hardtanh_backward.grad_input(grad, z, *numbers, grad_input=inside)
        return lambda: torch.ops.aten.threshold_backward(grad, z, numbers[1])
    shape = high.shape or [1] * z.dim()  # a tensor without axes would be rounded to the dtype of z
    above = z >= high.reshape(shape)
    torch.mul(grad, (z > low.reshape(shape)) & ~above, out=inside)
    return lambda: grad * above


def straight_through(
    z: Tensor, clip: Tensor, levels: int, grad_scale: float = 1.0, margin: float = 0.0, signed: bool = False
) -> Tensor:
    """clip(⌊zL/α + 1/2⌋, 0, L)·α/L with a straight-through gradient for z and LSQ's, scaled, for the clip α.

    The gradient passes where −margin·α/L < z < α + margin·α/L. ``signed``: codes from −L, and the gradient passes where
    |z| < α + margin·α/L. Computed in float32 at least, whatever the dtype of z.

    >>> straight_through(torch.tensor([0.3]), torch.tensor(1.0), 2)
    tensor([0.5000])
    """
    out: Tensor = _Quantise.apply(z, clip, levels, grad_scale, margin, signed)
    return out


def quantised(function: Activation, z: Tensor, theta: Tensor, levels: int, axis: int = 1) -> Tensor:
    """What the neurons of a site compute for constant input: clip(⌊f(z)L/θ + 1/2⌋, −L or 0, L)·θ/L.

    In sum coding that is what they put out, to rounding at the borders; `snnconv.dynamics.total` has their own
    comparisons. Gradients pass straight through the rounding, to z through f and to θ as in `straight_through`.

    Args:
        function: f, the site's activation; the rest of a clip is the quantiser's own. In units of θ where it is.
        z: input of the site, ``[B, ...]``.
        theta: θ, scalar or one value per channel, in units of f's output.
        levels: L, levels above zero.
        axis: channel axis of ``z``.

    >>> from snnconv.graph.activation import ReLU
    >>> quantised(ReLU(), torch.tensor([[-1.0, 0.3, 9.0]]), torch.tensor(1.0), 2)
    tensor([[0.0000, 0.5000, 1.0000]])
    """
    y = z if function.linear else evaluate(function, z, axis)
    theta = broadcast(theta.to(z), z.dim(), axis)
    out = straight_through(y, theta, levels, signed=function.signed)
    return out / theta if function.unit else out


class QuantReLU(TrainedActivation):
    r"""Quantised ReLU with ``levels`` levels above zero and a learned clip (QCFS, Fast-SNN, shifted-threshold).

    .. math:: y = \frac{\alpha}{L}\,\mathrm{clip}(\lfloor zL/\alpha + 1/2\rfloor, 0, L)

    (arXiv 2305.19868 eq. 6; arXiv 2302.02091 with λ = α; arXiv 2312.06900.) Rounding is half up, which is what an
    integrate-and-fire neuron started at θ/2 does. Gradients are straight-through: for z, 1 in range; for α, (y − z)/α
    there and 1 above. In range is 0 < z < α where the clip comes before the rounding (``gradient="lsq"``, arXiv
    1902.08153, eq. 3), −α/2L < z < α(1 + 1/2L) where it comes after (``gradient="qcfs"``). ``lsq_scale`` takes the
    gradient of α times L²/√(N·L) for N values a clip in one input: the step size α/L then learns as LSQ's does, whose
    gradient is scaled by 1/√(N·L).

    Args:
        levels: L, number of levels above zero; T steps of (signed) IF carry T levels, of shifted-threshold IF 2^T − 1.
        clip: initial α in units of z; a float, or one value per channel.
        channels: number of channels, to learn one clip per channel from a scalar ``clip``.
        axis: channel axis of ``[B, C, ...]``.
        per_channel: :func:`snnconv.prepare` gives each site one clip per channel.
        lsq_scale: scale the clip's gradient as LSQ does the step size's (its section 2.2), so that it learns as fast
            as the weights.
        gradient: ``"lsq"`` or ``"qcfs"``, where it passes.

    Shapes: input and output ``[B, ...]``.

    Raises:
        ValueError: ``levels`` < 1, a clip that is not positive, another gradient.

    >>> QuantReLU(levels=2, clip=1.0)(torch.tensor([-1.0, 0.2, 0.3, 2.0]))
    tensor([0.0000, 0.0000, 0.5000, 1.0000], grad_fn=<_QuantiseBackward>)
    """

    gradient: str = "lsq"  # also of modules that were pickled before there was a choice

    def __init__(
        self,
        levels: int,
        clip: float | Tensor = 4.0,
        channels: int | None = None,
        axis: int = 1,
        *,
        per_channel: bool = False,
        lsq_scale: bool = True,
        gradient: str = "lsq",
    ) -> None:
        super().__init__()
        if levels < 1:
            raise ValueError(f"levels must be at least 1, got {levels}")
        if gradient not in MARGINS:
            raise ValueError(f"gradient must be one of {tuple(MARGINS)}, got {gradient!r}")
        value = torch.as_tensor(clip, dtype=torch.float32)
        if channels is not None and value.dim() == 0:
            value = value.expand(channels)
        if not bool((value > 0).all()):
            raise ValueError("clip must be positive")
        self.levels = levels
        self.axis = axis
        self.per_channel = per_channel or value.dim() > 0
        self.lsq_scale = lsq_scale
        self.gradient = gradient
        self.clip = nn.Parameter(value.clone())

    @property
    def alpha(self) -> Tensor:
        """The clip α as the forward takes it: positive, whatever a step of the optimiser made of it."""
        return self.clip.abs().clamp(min=LEAST)

    def gradient_scale(self, z: Tensor) -> float:
        """What the clip's gradient is multiplied by, for inputs of the shape of ``z``."""
        values = max(z.shape[1:].numel() // self.clip.numel(), 1)  # a clip and an input
        return (self.levels**3 / values) ** 0.5 if self.lsq_scale else 1.0

    def forward(self, z: Tensor) -> Tensor:
        alpha = broadcast(self.alpha, z.dim(), self.axis)
        return straight_through(z, alpha, self.levels, self.gradient_scale(z), MARGINS[self.gradient])

    def site(self, name: str) -> Site:
        return Site(name, Quantised(self.alpha.detach().clone(), self.levels), self.axis)

    def start_at(self, theta: Tensor) -> None:
        with torch.no_grad():
            self.clip.copy_(theta.reshape(self.clip.shape))

    def at(self, function: Activation) -> QuantReLU:
        """A quantiser with these settings where a covered network has neurons for ``function``.

        >>> type(QuantReLU(levels=7).at(Identity())).__name__
        'QuantSigned'
        """
        how: dict[str, Any] = dict(
            levels=self.levels, clip=self.clip.detach().clone(), per_channel=self.per_channel,
            lsq_scale=self.lsq_scale, gradient=self.gradient,
        )  # fmt: skip
        if not function.linear:
            return QuantFunction(function, **how)
        return QuantSigned(**how) if function.signed else QuantReLU(**how)

    def placed(self, site: Site, channels: int | None, first: Self | None) -> Self:
        twin = super().placed(site, channels, first)
        twin.axis = site.axis
        if channels is not None and self.clip.dim() == 0:
            twin.clip = nn.Parameter(self.clip.detach().expand(channels).clone())
        if channels is not None and twin.clip.shape != (channels,):
            raise ValueError(
                f"{site.name}: {twin.clip.numel()} clips for {channels} channels; give a scalar clip and "
                "per_channel=True, so that each site has its own number"
            )
        return twin

    def extra_repr(self) -> str:
        return f"levels={self.levels}, clips={self.clip.numel()}"


class QuantSigned(QuantReLU):
    r"""Quantised values of both signs with ``levels`` levels on either side of zero and a learned clip.

    .. math:: y = \frac{\alpha}{L}\,\mathrm{clip}(\lfloor zL/\alpha + 1/2\rfloor, -L, L)

    :class:`QuantReLU` (LSQ, arXiv 1902.08153) for values such as a linear bottleneck's or a normalisation's: the signed
    bits of shifted-threshold IF with L = 2^T − 1 are exactly this. The gradient passes where |z| < α; for α it is
    (y − z)/α there, 1 above and −1 below. Arguments as there.

    >>> QuantSigned(levels=2, clip=1.0)(torch.tensor([-3.0, -0.3, 0.2]))
    tensor([-1.0000, -0.5000,  0.0000], grad_fn=<_QuantiseBackward>)
    """

    def forward(self, z: Tensor) -> Tensor:
        alpha = broadcast(self.alpha, z.dim(), self.axis)
        margin = MARGINS[self.gradient]
        return straight_through(z, alpha, self.levels, self.gradient_scale(z), margin, signed=True)

    def site(self, name: str) -> Site:
        return Site(name, QuantisedSigned(self.alpha.detach().clone(), self.levels), self.axis)

    def plain(self) -> Activation:
        return Identity()


class QuantFunction(QuantReLU):
    r"""An activation of any kind with ``levels`` levels of its value (on either side of zero) and a learned clip.

    .. math:: y = \frac{\alpha}{L}\,\mathrm{clip}(\lfloor f(z)L/\alpha + 1/2\rfloor, -L\text{ or }0, L)

    What the ladder of f computes in T steps of shifted-threshold IF, L = 2^T − 1. f is evaluated in float64, as there;
    the gradient of the rounding is that of :class:`QuantReLU` or :class:`QuantSigned`. Further arguments as there.

    Args:
        function: f, a kind of :mod:`snnconv.graph.functions`; it is not trained.
        levels: L.

    >>> from snnconv.graph.functions import SiLU
    >>> QuantFunction(SiLU(), levels=4, clip=1.0)(torch.tensor([-1.0, 0.3, 3.0]))
    tensor([-0.2500,  0.2500,  1.0000], grad_fn=<_QuantiseBackward>)
    """

    def __init__(self, function: Activation, levels: int, clip: float | Tensor = 4.0, **how: Any) -> None:
        super().__init__(levels, clip, **how)
        self.function = function

    def forward(self, z: Tensor) -> Tensor:
        y = evaluate(self.function, z, self.axis)
        alpha, signed = broadcast(self.alpha, z.dim(), self.axis), self.function.signed
        return straight_through(y, alpha, self.levels, self.gradient_scale(z), MARGINS[self.gradient], signed)

    def site(self, name: str) -> Site:
        of = QuantisedFunction.of_function(self.function)
        return Site(name, QuantisedFunction(self.alpha.detach().clone(), self.levels, of), self.axis)

    def plain(self) -> Activation:
        return self.function


class QCFS(QuantReLU):
    """The quantisation clip-floor-shift activation (Bu et al., ICLR 2022, arXiv 2303.04347; λ is ``clip``).

    y = λ·clip(⌊zL/λ + 1/2⌋/L, 0, 1): :class:`QuantReLU` with the gradient of the code of SRP's authors (arXiv
    2302.02091), who round first and clip then: it passes where −λ/2L < z < λ(1 + 1/2L). ``gradient="lsq"`` clips first.
    The gradient for λ is not scaled. Arguments as there.

    >>> QCFS(levels=4, clip=2.0)(torch.tensor([0.7])).item()
    0.5
    """

    def __init__(
        self,
        levels: int,
        clip: float | Tensor = 4.0,
        channels: int | None = None,
        axis: int = 1,
        *,
        per_channel: bool = False,
        lsq_scale: bool = False,
        gradient: str = "qcfs",
    ) -> None:
        super().__init__(levels, clip, channels, axis, per_channel=per_channel, lsq_scale=lsq_scale, gradient=gradient)
