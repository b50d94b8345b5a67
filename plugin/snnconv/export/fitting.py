"""Whether a converted network fits a chip: the vendor's published limits, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from torch import fx

from snnconv.export.chain import VIEWS
from snnconv.export.chips import CHIPS, Chip
from snnconv.export.neurons import neuron_settings, to_be_plain
from snnconv.export.shapes import pool_window, spread, step_shapes
from snnconv.graph.arguments import argument, operand
from snnconv.graph.flow import Flow, layer_name
from snnconv.graph.fold import synapse_arguments
from snnconv.graph.ops import SYNAPSES, is_synapse, op_name
from snnconv.graph.source import ConversionError, SourceGraph, activation_site
from snnconv.network import SpikingNetwork
from snnconv.runtime.program import GraphProgram

__all__ = ["Fit", "LayerFit", "fits"]


@dataclass
class LayerFit:
    """One layer on one core.

    Attributes:
        name: of the layer.
        kernel: entries of kernel memory, as the addresses need them: c·2^(⌈log2 k_x·k_y⌉ + ⌈log2 f⌉).
        neurons: entries of neuron memory.
        core: the core it goes to; None where there is none.
        problems: what does not fit, each with what to change.
    """

    name: str
    kernel: int = 0
    neurons: int = 0
    biases: int = 0
    core: int | None = None
    problems: list[str] = field(default_factory=list)


@dataclass
class Fit:
    """Whether a network fits a chip; prints as a table.

    Attributes:
        chip: its name.
        layers: one a layer with weights, in order.
        problems: of the network as a whole.
    """

    chip: str
    layers: list[LayerFit]
    problems: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return not self.problems and not any(layer.problems for layer in self.layers)

    def __str__(self) -> str:
        lines = [f"{self.chip}: {'fits' if self else 'does not fit'}"]
        for layer in self.layers:
            place = f"core {layer.core}" if layer.core is not None else "no core"
            lines.append(f"  {layer.name}: {layer.kernel} weights, {layer.neurons} neurons, {place}")
            lines += [f"    {problem}" for problem in layer.problems]
        return "\n".join([*lines, *(f"  {problem}" for problem in self.problems)])


def fits(snn: SpikingNetwork, chip: str | Chip = "speck2f") -> Fit:
    """Check a converted network against the published limits of a chip, without the chip or its tools.

    Args:
        snn: a network that runs as a graph and knows its input's shape.
        chip: a name in `CHIPS`, or a record of one's own.

    Returns:
        What each layer takes, the core it would go to, and all that does not fit, with what to change.

    Raises:
        ConversionError: a network that runs call by call.
        ValueError: an unknown chip; the message lists the known ones.

    Example:
        >>> import torch, snnconv
        >>> from torch import nn
        >>> model = nn.Sequential(
        ...     nn.Conv2d(2, 8, 3, stride=2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 10, bias=False))
        >>> method = snnconv.methods.IF(timesteps=16, per_channel=False, correction="none")
        >>> print(snnconv.fits(snnconv.convert(model, method, torch.rand(16, 2, 16, 16)), "speck2f"))
        speck2f: fits
          0: 256 weights, 392 neurons, core 1
          3: 8192 weights, 10 neurons, core 0
    """
    if isinstance(chip, str):
        if chip not in CHIPS:
            raise ValueError(f"unknown chip {chip!r}; known: {', '.join(sorted(CHIPS))}; register_chip adds one")
        chip = CHIPS[chip]
    if not isinstance(snn.program, GraphProgram):
        raise ConversionError(
            "only a network that runs as a graph can be laid out on cores; this one runs call by call"
        )
    shape = snn.input_spec.get("shape")
    if shape is not None and len(shape) != 3:
        return Fit(chip.name, [], [f"its cores read [C, H, W], and this network's input is {shape}"])
    return _Layout(snn, snn.program.source, chip).fit()


class _Layout:
    def __init__(self, snn: SpikingNetwork, source: SourceGraph, chip: Chip) -> None:
        self.snn, self.source, self.chip = snn, source, chip
        self.flow = Flow(source.graph)
        self.shapes = step_shapes(source, snn)

    def fit(self) -> Fit:
        chip, snn = self.chip, self.snn
        layers = [n for n in self.flow.nodes if is_synapse(n) and n in self.flow.varies]
        found = [self._layer(node) for node in layers]
        result = Fit(chip.name, found)
        other = ((k, v) for k, v in neuron_settings(snn).items() if v["neuron"] not in chip.neurons)
        for name, settings in islice(other, 1):
            result.problems.append(
                f"its neurons are {', '.join(chip.neurons)}, and methods.{type(snn.method).__name__} puts "
                f"{settings['neuron']} neurons at {name}: {to_be_plain(settings, 'methods.IF')}"
            )
        several = [name for name in snn.program.sites if snn.thresholds[name].numel() > 1]
        if several:
            result.problems.append(
                f"a core has one threshold, and {several[0]} has {snn.thresholds[several[0]].numel()}: convert with "
                "per_channel=False"
            )
        self._operators(layers, result)
        self._order(result)
        if len(found) > len(chip.kernel_memory):
            result.problems.append(f"{len(found)} layers for {len(chip.kernel_memory)} cores: take a shallower network")
        else:
            self._place(found)
        return result

    def _layer(self, node: fx.Node) -> LayerFit:
        chip, read = self.chip, operand(node)
        before, after = self._map(read), self._map(node)
        fit = LayerFit(layer_name(node), neurons=math.prod(after))
        weight, bias = synapse_arguments(node)
        if weight is None:
            fit.problems.append("its weights are computed: a core's are constants")
            return fit
        shape = self.source.tensors[str(weight.target)].shape
        if SYNAPSES[node.target] == "linear":
            before = self._flattened(read)  # a convolution whose kernel covers the map that was flattened
            kernel, stride, padding = before[1:], (1, 1), (0, 0)
        else:
            kernel = tuple(shape[2:])
            stride, padding = spread(argument(node, "stride", 1), 2), self._padding(node, kernel)
            self._convolution(node, fit)
        outputs = after[0]
        fit.kernel = before[0] * 2 ** (_bits(math.prod(kernel)) + _bits(outputs))
        if bias is not None and bool((self.source.tensors[str(bias.target)] != 0).any()):
            fit.biases = outputs
        self._limits(fit, before, after, kernel, stride, padding)
        if fit.biases > max(chip.bias_memory):
            fit.problems.append(f"{fit.biases} biases, at most {max(chip.bias_memory)}: train with fewer channels")
        return fit

    def _convolution(self, node: fx.Node, fit: LayerFit) -> None:
        if SYNAPSES[node.target] != "conv" or getattr(node.target, "__name__", "") != "conv2d":
            fit.problems.append(f"{op_name(node)}: a core convolves in two dimensions")
        if int(argument(node, "groups", 1)) != 1:
            fit.problems.append("grouped convolution: a core connects all channels; take groups=1")
        if any(d != 1 for d in spread(argument(node, "dilation", 1), 2)):
            fit.problems.append("dilated convolution: take dilation=1")

    @staticmethod
    def _padding(node: fx.Node, kernel: Sequence[int]) -> tuple[int, int]:
        """Of a convolution; "same" as the numbers that it stands for."""
        given = argument(node, "padding", 0)
        if isinstance(given, str):
            return ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2) if given == "same" else (0, 0)
        rows, columns = spread(given, 2)
        return rows, columns

    def _flattened(self, node: fx.Node) -> tuple[int, ...]:
        """The map that views made a vector of."""
        while op_name(node).strip("._") in VIEWS and isinstance(operand(node), fx.Node):
            node = operand(node)
        return self._map(node)

    def _limits(
        self,
        fit: LayerFit,
        before: tuple[int, ...],
        after: tuple[int, ...],
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
    ) -> None:
        chip = self.chip
        if max(kernel) > chip.kernel:
            fit.problems.append(
                f"a kernel of {'x'.join(map(str, kernel))}, at most {chip.kernel}x{chip.kernel}: pool more before it"
            )
        if any(s not in chip.strides for s in stride):
            fit.problems.append(f"stride {tuple(stride)}: there are {', '.join(map(str, chip.strides))}")
        if any(isinstance(p, int) and p > chip.padding for p in padding):
            fit.problems.append(f"padding {tuple(padding)}, at most {chip.padding}")
        if max(before[1:], default=1) > chip.largest_input:
            fit.problems.append(f"it reads a map of {list(before[1:])}, at most {chip.largest_input}: shrink the input")
        if max(after[1:], default=1) > chip.largest_map:
            fit.problems.append(f"its map is {list(after[1:])}, at most {chip.largest_map}: take a stride before it")
        if max(before[0], after[0]) > chip.channels:
            fit.problems.append(f"{max(before[0], after[0])} channels, at most {chip.channels}: take fewer")
        if fit.kernel > max(chip.kernel_memory):
            fit.problems.append(
                f"{fit.kernel} entries of kernel memory, at most {max(chip.kernel_memory)}: too wide; take fewer "
                "channels or a smaller kernel"
            )
        if fit.neurons > max(chip.neuron_memory):
            fit.problems.append(
                f"{fit.neurons} neurons, at most {max(chip.neuron_memory)}: too wide; take fewer channels or a stride"
            )

    def _map(self, node: fx.Node) -> tuple[int, ...]:
        """``(C, H, W)`` of a value; a vector has one place."""
        shape = self.shapes.get(node, ())
        return shape if len(shape) == 3 else (*(shape or (1,))[:1], 1, 1)

    def _operators(self, layers: list[fx.Node], result: Fit) -> None:
        """What stands between the layers: sum pooling and views alone."""
        by_node = dict(zip(layers, result.layers, strict=True))
        sites = self.source.site_nodes()
        for node in self.flow.nodes:
            if node not in self.flow.varies or node in by_node or node in sites or node.op in ("placeholder", "output"):
                continue
            name = op_name(node).strip("._")
            if self.flow.kinds[node] in ("shape", "size"):
                continue
            if name in VIEWS:
                shape, before = self.shapes[node], self.shapes[operand(node)]
                if len(shape) != 1 and shape != before:
                    result.problems.append(
                        f"{layer_name(node)}: a view of {list(before)} as {list(shape)}: cores send maps as they are"
                    )
                continue
            where = node.meta.get("path") or node.name
            problem = self._pooling(node, name) if "avg_pool" in name or "max_pool" in name or name == "mean" else (
                f"{name}: a core sums what its own layer gives, and nothing else"
                if name in ("add", "iadd")
                else f"{name} stands between layers: a core is a convolution, its neurons and a sum pooling"
            )  # fmt: skip
            if problem:
                result.problems.append(f"{where}: {problem}")
        for site in sites:
            readers = self._readers(site, set(layers))
            if len(readers) > self.chip.fan_out:
                result.problems.append(
                    f"{site.kwargs['site']}: {len(readers)} layers read it, and a core sends to {self.chip.fan_out}"
                )

    def _order(self, result: Fit) -> None:
        """A convolution, then its neurons, then the pooling: currents go to neurons, and nothing else does."""
        layer: dict[fx.Node, str] = {}  # whose currents a value is
        pooled: set[fx.Node] = set()
        for node in self.flow.nodes:
            if node not in self.flow.varies or self.flow.kinds[node] in ("shape", "size"):
                continue
            read = next((n for n in node.all_input_nodes if n in layer), None)
            if is_synapse(node):
                if read is not None:
                    result.problems.append(
                        f"{layer_name(node)} reads the currents of {layer[read]}, and a core gives spikes: put an "
                        "activation between them, or make one layer of the two"
                    )
                layer[node] = layer_name(node)
            elif node.target is activation_site:
                site = node.kwargs["site"]
                if read is None:
                    result.problems.append(f"{site} reads no layer: a core's neurons read its convolution")
                elif read in pooled:
                    result.problems.append(
                        f"{site} reads pooled currents, and a core pools the spikes of its neurons: put the pooling "
                        "behind the activation"
                    )
            elif read is not None:
                layer[node] = layer[read]
                if read in pooled or "pool" in op_name(node) or op_name(node).strip("._") == "mean":
                    pooled.add(node)

    def _pooling(self, node: fx.Node, name: str) -> str:
        if "max" in name:
            return "max-pooling: cores pool by sums; train with nn.AvgPool2d"
        before, after = self._map(operand(node)), self._map(node)
        kernel, stride, padding = pool_window(node, name, before, after)
        windows = ", ".join(f"{k}x{k}" for k in self.chip.pooling)
        if (
            kernel is None
            or kernel[0] != kernel[1]
            or kernel[0] not in self.chip.pooling
            or stride != kernel
            or any(padding)
        ):
            shown = "x".join(map(str, kernel)) if kernel else "of this kind"
            return f"pooling {shown}: there are {windows}, side by side, square; pool in steps or by a stride"
        return ""

    def _readers(self, node: fx.Node, layers: set[fx.Node]) -> set[fx.Node]:
        found: set[fx.Node] = set()
        for user in node.users:
            found |= (
                {user} if user in layers else set() if user.target is activation_site else self._readers(user, layers)
            )
        return found

    def _place(self, found: list[LayerFit]) -> None:
        """A core for every layer: the largest matching of layers and cores whose memories hold them."""
        chip = self.chip
        cores = list(zip(chip.kernel_memory, chip.neuron_memory, chip.bias_memory, strict=True))
        takes: dict[int, int] = {}

        def placed(layer: int, tried: set[int]) -> bool:
            fit = found[layer]
            for core, (kernel, neurons, biases) in enumerate(cores):
                if core in tried or fit.kernel > kernel or fit.neurons > neurons or fit.biases > biases:
                    continue
                tried.add(core)
                if core not in takes or placed(takes[core], tried):
                    takes[core] = layer
                    return True
            return False

        for number, fit in enumerate(found):
            if not placed(number, set()) and not fit.problems:
                fit.problems.append(
                    f"no core is left with {fit.kernel} entries of kernel memory and {fit.neurons} of neuron memory: "
                    "take fewer channels in the widest layers"
                )
        for core, number in takes.items():
            found[number].core = core


def _bits(number: int) -> int:
    return math.ceil(math.log2(number)) if number > 1 else 0
