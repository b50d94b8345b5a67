"""From a trained ReLU network to one to be trained with activations that convert directly: :func:`prepare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconv.activations import QuantReLU, RateNorm, TrainedActivation
from snnconv.conversion.given import CALIBRATION_LIMIT
from snnconv.conversion.histogram import histograms, run_all
from snnconv.conversion.ranks import Ranks
from snnconv.conversion.thresholds import mse_threshold
from snnconv.graph.activation import ReLU
from snnconv.graph.arguments import argument
from snnconv.graph.capture.fx import TraceFailure, check_weights, source_graph
from snnconv.graph.cover import Cover
from snnconv.graph.fold import synapse_arguments
from snnconv.graph.ops import SYNAPSES, op_name
from snnconv.graph.rebuild import rebuilt, replaceable, with_modules
from snnconv.graph.sites import is_activation_module
from snnconv.graph.source import ConversionError, Site, SourceGraph, broadcast
from snnconv.graph.unwrap import refuse, unwrap
from snnconv.inputs import Reader, Take, input_batches
from snnconv.network import SpikingNetwork
from snnconv.progress import ProgressFn, bars
from snnconv.runtime.capture import captured, differs_from
from snnconv.runtime.program import GraphProgram, Program
from snnconv.runtime.signature import Signature
from snnconv.runtime.tree import TreeProgram
from snnconv.training.covered import covered

__all__ = ["calibrate", "prepare"]


def prepare(
    model: nn.Module,
    activation: TrainedActivation,
    calibration: Any = None,
    *,
    calibration_inputs: Take = None,
    cover: str = "activations",
    encode_input: bool = False,
    progress: bool | ProgressFn | None = None,
) -> nn.Module:
    """A trainable copy of a network with a trained activation at every ReLU, to be fine-tuned and then converted.

    Sites are those that :func:`snnconv.convert` finds, however the ReLU is written. Where each is a module of its own,
    the copy is of the model's class, with these modules replaced; otherwise (``F.relu``, a module called twice) it is
    an ``fx.GraphModule`` of the same forward. In both cases parameters keep their names, and BatchNorm, dropout and
    pooling stay. A network that does not trace must have its ReLUs as modules, and calibration data to find them.
    Wrappers and hooks that only look are left out of the copy; pruning and weight norm stay, except where the copy is
    an ``fx.GraphModule``.

    With ``calibration``, a :class:`~snnconv.activations.QuantReLU` starts from the clip of least squared error for its
    levels (at most a ReLU6's cap), a :class:`~snnconv.activations.RateNorm` from the largest activation. Without, they
    start as the given one is: right for training from scratch and for loading weights of a prepared network.

    With ``cover="synapses"`` a quantiser stands wherever :func:`snnconv.convert` with that cover puts neurons: at
    activations of every kind and at every encoder. The copy is an ``fx.GraphModule`` of the captured network in
    evaluation: BatchNorm is folded into the weights, which are trained so, and there is no dropout.

    Args:
        model: the network; it is not changed.
        activation: what goes to each site (a copy of it). With ``cover="synapses"`` a ``QuantReLU``, of whose settings
            :class:`~snnconv.activations.QuantSigned` and :class:`~snnconv.activations.QuantFunction` are made, too.
        calibration: a tensor ``[N, ...]``, a list of batches, or a loader; the first 1,024 samples are used.
            ``cover="synapses"`` needs it.
        calibration_inputs: which of a batch's entries are inputs, as for :func:`snnconv.convert`.
        cover, encode_input: where neurons will stand, as for :func:`snnconv.convert`.
        progress: ``False`` for no progress bars, or a function ``(what, done, total)``.

    Raises:
        TypeError: ``activation`` is a class, or no trained activation.
        ConversionError: no ReLU, NaN weights, unusable calibration data, or a ReLU that cannot be replaced, by name.

    >>> import torch, snnconv
    >>> from snnconv import activations, methods
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    >>> qann = prepare(model, activations.QuantReLU(levels=7), calibration=torch.randn(64, 4))
    >>> loss = qann(torch.randn(16, 4)).square().mean()  # ... train it
    >>> snn = snnconv.convert(qann, methods.ShiftedThreshold(timesteps=3, thresholds="trained"))
    >>> x = torch.randn(5, 4)
    >>> torch.allclose(snn(x), qann.eval()(x), atol=1e-5)
    True
    """
    _check_arguments(model, activation)
    trainable = unwrap(model, plain=False).model
    model = unwrap(trainable).model
    batches = [] if calibration is None else _batches(model, calibration, calibration_inputs)
    check_weights(model)
    where = Cover(cover, encode_input, wanted=lambda kind: kind.extrema is not None)
    if where.synapses:
        twin: nn.Module = covered(model, activation, batches, _signature(model, batches), where)
        calibrate(twin, batches, progress=progress)
        return twin
    make = _Maker(activation, next((p for p in model.parameters() if p.is_floating_point()), None))
    source = _traced(model, batches)
    if source is None:
        sites = _module_sites(model, batches)
        make.channels = _measured(TreeProgram(model, batches[0][:2]), batches) if activation.per_channel else {}
        twin = with_modules(trainable, sites, make)
    else:
        _check_sites(model, source.sites)
        if activation.per_channel:
            make.channels = _measured(GraphProgram(source.copy()), batches) if batches else _channels(source)
        if replaceable(source):
            relus = [s for s in source.sites.values() if isinstance(s.function, ReLU)]
            twin = with_modules(trainable, relus, make)
        else:
            twin = rebuilt(model, source, make, _signature(model, batches).traced[1])
    if batches:
        calibrate(twin, batches, progress=progress)
    return twin


class _Maker:
    """Makes the activation of each site, where the network's parameters are, and in double precision where they are."""

    def __init__(self, activation: TrainedActivation, like: Tensor | None) -> None:
        self.activation = activation
        self.like = like
        self.channels: dict[str, int] = {}
        self.first: TrainedActivation | None = None

    def __call__(self, site: Site) -> TrainedActivation:
        made = self.activation.placed(site, self.channels.get(site.name), self.first)
        if self.like is not None:
            made.to(self.like.device, torch.float64 if self.like.dtype == torch.float64 else None)
        self.first = self.first or made
        return made.train()


def _check_arguments(model: Any, activation: Any) -> None:
    if isinstance(model, SpikingNetwork):
        raise ConversionError("this network is already converted; prepare the network it was made from")
    refuse(model)
    if isinstance(activation, type) and issubclass(activation, TrainedActivation):
        raise TypeError(f"give an instance, activations.{activation.__name__}(...), not the class")
    if not isinstance(activation, TrainedActivation):
        raise TypeError(f"activation must be activations.QuantReLU, QCFS or RateNorm, got {type(activation).__name__}")


def _check_sites(model: nn.Module, sites: dict[str, Site]) -> None:
    if any(isinstance(site.function, ReLU) for site in sites.values()):
        return
    if sites:
        raise ConversionError("every activation of this network is a trained one already: train it as it is")
    kinds = sorted({type(m).__name__ for m in model.modules() if "activation" in type(m).__module__})
    raise ConversionError(
        "this network has no ReLU (nn.ReLU, F.relu, x.relu(), clamp(min=0), ReLU6 ...) to replace"
        + (f"; its activations are {', '.join(kinds)}" if kinds else "")
    )


def _batches(model: nn.Module, calibration: Any, take: Take = None) -> list[Any]:
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    device = parameter.device if parameter is not None else None
    dtype = parameter.dtype if parameter is not None else torch.float32
    return input_batches(calibration, CALIBRATION_LIMIT, device, dtype, reader=Reader(Signature.of(model), take))


def _signature(model: nn.Module, batches: Sequence[Any]) -> Signature:
    """The arguments of the network's forward that calibration gives."""
    signature = Signature.of(model)
    return Signature.from_spec(signature.described(batches[0])) if batches else signature


def _traced(model: nn.Module, batches: Sequence[Any]) -> SourceGraph | None:
    """The traced network; ``None`` where it does not trace, or its graph says something else than its forward."""
    given = _signature(model, batches).traced
    try:
        source = source_graph(model, *given)
    except TraceFailure as failure:
        if not batches:
            raise ConversionError(
                f"its forward does not trace ({failure}), so that activations are found by running it: give calibration"
                " data"
            ) from failure
        return None
    with torch.no_grad():
        differs = differs_from(model, source, batches, lambda exact: source_graph(exact, *given))
    return None if differs else source


def _module_sites(model: nn.Module, batches: Sequence[Any]) -> list[Site]:
    """The ReLUs of a network that does not trace, by running it; each must be a module.

    A conversion may capture it by ``torch.export``, and sees more ways to write a ReLU then: these are found, too.
    """
    with torch.no_grad():
        found = TreeProgram(model, batches[0][:2]).sites
        exported = captured(model, _signature(model, batches), batches).source
    _check_sites(model, found if exported is None else found | exported.sites)
    modules = dict(model.named_modules(remove_duplicate=False))
    places: dict[str, Site] = {}
    for name, site in found.items():
        path = name.partition(":")[0]
        if isinstance(site.function, ReLU):
            places.setdefault(path, site.with_(name=path))
    loose = [name for name in places if not is_activation_module(type(modules.get(name)))]
    if exported is not None and not loose:
        for node in exported.site_nodes():
            name, alone = str(node.kwargs["site"]), is_activation_module(node.meta.get("module_type"))
            if isinstance(exported.sites[name].function, ReLU) and not alone:
                loose.append(name)
    if loose:
        raise ConversionError(
            f"{', '.join(loose)}: a ReLU that is called as a function, in a network that does not trace, cannot be "
            "replaced; make it an nn.ReLU module"
        )
    return list(places.values())


# --- channels ----------------------------------------------------------------------------------------------


def _channels(source: SourceGraph) -> dict[str, int]:
    """Channels at each site, from the layers alone."""
    found: dict[str, int] = {}
    for node in source.site_nodes():
        name = str(node.kwargs["site"])
        count = _channels_of(source, node.args[0])
        if count is None:
            raise ConversionError(
                f"{name}: the number of channels does not follow from the layers before; give calibration data, "
                "or use one clip a site (per_channel=False)"
            )
        found[name] = count
    return found


def _channels_of(source: SourceGraph, node: Any) -> int | None:
    """Channels of a value: those of the layer with weights or BatchNorm that it comes from."""
    if not isinstance(node, fx.Node) or node.op in ("placeholder", "get_attr"):
        return None
    if node.target in SYNAPSES:
        weight = synapse_arguments(node)[0]
        if weight is None:
            return None
        shape = source.tensors[str(weight.target)].shape
        if SYNAPSES[node.target] == "conv_transpose":
            return int(shape[1]) * int(argument(node, "groups", 1))
        return int(shape[0])
    if node.target in (F.batch_norm, torch.batch_norm):
        mean = argument(node, "running_mean")
        return source.tensors[str(mean.target)].numel() if isinstance(mean, fx.Node) else None
    if op_name(node).strip("._") in ("cat", "concat", "concatenate"):
        parts = [_channels_of(source, n) for n in node.all_input_nodes]
        return None if None in parts else sum(p for p in parts if p is not None)
    if op_name(node).strip("._") in ("view", "reshape", "flatten", "getitem", "chunk", "split", "permute", "transpose"):
        return None
    return next((c for n in node.all_input_nodes if (c := _channels_of(source, n)) is not None), None)


def _measured(program: Program, batches: Sequence[Any]) -> dict[str, int]:
    """Channels at each site, from data."""
    found: dict[str, int] = {}

    def look(name: str, z: Tensor) -> Tensor:
        found[name] = z.shape[program.sites[name].axis]
        return program.sites[name].activation(z)

    with torch.no_grad():
        program.static(batches[0][:2], look)
    return found


# --- where training starts ---------------------------------------------------------------------------------


def calibrate(
    model: nn.Module,
    calibration: Any,
    *,
    calibration_inputs: Take = None,
    progress: bool | ProgressFn | None = None,
    distributed: bool = False,
) -> None:
    """Set the thresholds of a network's trained activations from data, in place, as :func:`prepare` does.

    A :class:`~snnconv.activations.QuantReLU`'s clip is the one of least squared error on the activations that the
    network has with ReLUs; a :class:`~snnconv.activations.RateNorm`'s running maximum is the largest input of the
    layer, each layer on the outputs of those before.

    Args:
        model: the network; in evaluation mode for this.
        calibration, calibration_inputs: as for :func:`prepare`.
        progress: ``False`` for no progress bars, or a function ``(what, done, total)``.
        distributed: every rank of the process group calls this with its share of the data.

    Raises:
        ConversionError: no trained activation, unusable calibration data.

    >>> network = nn.Sequential(nn.Linear(4, 8), QuantReLU(levels=3), nn.Linear(8, 2))
    >>> calibrate(network, torch.randn(64, 4))
    >>> float(network[1].clip) < 4
    True
    """
    batches = _batches(model, calibration, calibration_inputs)
    ranks = Ranks(distributed)
    with bars(progress) as tell, torch.no_grad():
        program, places = _with_relus(model, batches)
        if not places:
            raise ConversionError("this network has no trained activation (activations.QuantReLU, RateNorm) to set")
        for per_channel in {m.per_channel for m in places.values() if isinstance(m, QuantReLU)}:
            found = histograms(program, batches, per_channel, tell, ranks)
            starts: dict[QuantReLU, Tensor] = {}
            for name, module in places.items():
                if isinstance(module, QuantReLU) and module.per_channel == per_channel:
                    signed = module.plain().signed
                    theta = mse_threshold(found[name], module.levels, cap=module.cap, signed=signed)
                    starts[module] = torch.maximum(theta, starts.get(module, theta))
            for module, theta in starts.items():
                module.start_at(theta)
        if any(isinstance(module, RateNorm) for module in places.values()):
            _largest(program, places, batches, tell, ranks)


def _with_relus(model: nn.Module, batches: Sequence[Any]) -> tuple[Program, dict[str, TrainedActivation]]:
    """The network with ReLUs at its trained activations, and these by site."""
    twin = unwrap(model).model
    own = dict(zip(_trained(twin), _trained(model).values(), strict=True))  # wrappers inside have names of their own
    for module in twin.modules():
        if isinstance(module, RateNorm):
            module.running_max.fill_(1.0)  # one that has seen no data has no threshold yet
    source = _traced(twin, batches)
    program: Program = TreeProgram(twin, batches[0][:2]) if source is None else GraphProgram(source)
    places: dict[str, TrainedActivation] = {}
    for name, site in list(program.sites.items()):
        owner = own.get(name.partition(":")[0])
        if owner is not None:
            places[name] = owner
            program.sites[name] = Site(name, owner.plain(), site.axis)
    return program, places


def _trained(model: nn.Module) -> dict[str, TrainedActivation]:
    return {path: module for path, module in model.named_modules() if isinstance(module, TrainedActivation)}


def _largest(
    program: Program,
    places: dict[str, TrainedActivation],
    batches: Sequence[Any],
    tell: Callable[[str, int, int], None],
    ranks: Ranks,
) -> None:
    """Running maxima of rate norm layers: batch after batch, layer after layer."""
    peaks: dict[TrainedActivation, Tensor] = {}

    def note(name: str, z: Tensor) -> Tensor:
        module = places.get(name)
        y = program.sites[name].activation(z)
        if not isinstance(module, RateNorm):
            return y
        peak = ranks.largest(y.amax() if y.numel() else y.new_zeros(()))
        peaks[module] = torch.maximum(peaks.get(module, peak), peak)
        module.start_at(peaks[module])
        theta = broadcast(module.theta.to(z), z.dim(), 1)
        return torch.minimum(y, theta) if module.scaled else (y / theta).clamp(max=1)

    run_all(program, [batch for batch, _ in ranks.aligned(batches)], note, "rate norm: range", tell)
    for module, peak in peaks.items():
        if peak <= 0:
            module.start_at(torch.ones_like(peak))
