"""What a command is given: the network, its data, how to convert it; each option is read and checked once."""

from __future__ import annotations

import dataclasses
import functools
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import nn

from snnconv.cli import inputs as cli_inputs
from snnconv.cli import preprocessing
from snnconv.cli.data import Data, load_data
from snnconv.cli.inputs import InputError
from snnconv.cli.models import find_device, is_random, load_model
from snnconv.cli.outcome import say
from snnconv.cli.preprocessing import Preprocessing

__all__ = ["CONVERTING", "Given"]

REPEATED = (
    "weights", "classes", "pretrained", "calibration", "calibration_images", "size", "resize", "crop", "mean", "std",
    "transform", "device", "cover", "encode_input",
)  # fmt: skip
"""Options that a command to go on with repeats where they are not the default."""
CONVERTING = ("framework", "normalisation", "override", "exclude", "budget", "precision", "input")
"""Those that one which converts repeats, too."""
WITHOUT_DATA = Path("batch-norm")
"""Calibration by no inputs."""


@dataclass(kw_only=True)
class Given:
    """What the commands that take a network are given: each field is an argument or option."""

    model: Annotated[
        str,
        typer.Argument(
            help="torchvision:resnet18, timm:resnet26, or path/to/file.py:function that returns a network. "
            "The last form runs that file's code."
        ),
    ]
    data: Annotated[
        Path,
        typer.Option(help="A folder with a subfolder of images a class, or a .npz, .pt or .safetensors with x, y."),
    ]
    method: Annotated[str, typer.Option(help="Conversion method; its settings are listed below.")] = "signed-if"
    weights: Annotated[
        Path | None, typer.Option(help="Parameters: .safetensors, or .pth (read with weights_only=True).")
    ] = None
    classes: Annotated[int | None, typer.Option(min=1, help="Number of classes of a torchvision or timm network.")] = (
        None
    )
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Download torchvision's or timm's weights.")] = False
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Inputs for calibration, a folder of unlabelled pictures for instance; --data by default. batch-norm: "
            "none, what the network's BatchNorms have learned (with correction none)."
        ),
    ] = None
    calibration_images: Annotated[int, typer.Option(min=1, help="How many inputs calibrate.")] = 256
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side of an image after resizing, in proportion, and cropping; as its weights say, or 224.",
        ),
    ] = None
    resize: Annotated[int | None, typer.Option(min=1, help="The shorter side, before cropping.")] = None
    crop: Annotated[int | None, typer.Option(min=1, help="Side after cropping; goes with --resize.")] = None
    mean: Annotated[str | None, typer.Option(help="Mean of every channel: 0.485,0.456,0.406 by default.")] = None
    std: Annotated[str | None, typer.Option(help="Standard deviation of every channel: 0.229,0.224,0.225.")] = None
    transform: Annotated[
        str | None,
        typer.Option(help="FILE.py:NAME: your own function, a PIL image to a tensor [C, H, W]. Runs that file's code."),
    ] = None
    device: Annotated[str | None, typer.Option(help="Where the networks run: cpu, cuda, cuda:1, mps.")] = None
    framework: Annotated[str, typer.Option(help="Whose neurons: spikingjelly or snntorch.")] = "spikingjelly"
    cover: Annotated[
        str, typer.Option(help="Where neurons stand: activations, or synapses (every layer and product reads spikes).")
    ] = "activations"
    encode_input: Annotated[
        bool, typer.Option("--encode-input", help="With --cover synapses: the first layers read spikes, too.")
    ] = False
    normalisation: Annotated[
        str, typer.Option(help="Softmax and norms: function, or ladder (with --cover synapses: by comparisons).")
    ] = "function"
    override: Annotated[
        list[str] | None,
        typer.Option(help="PATTERN:field=value: a setting of the layers that the pattern names; may be repeated."),
    ] = None
    exclude: Annotated[
        list[str] | None, typer.Option(help="A pattern of activations that stay analog; may be repeated.")
    ] = None
    budget: Annotated[
        float | None, typer.Option(help="Mean time steps a layer, each layer with its own (shifted-threshold).")
    ] = None
    precision: Annotated[
        str | None, typer.Option(help="float32, or int8: 8-bit weights in layers that read spikes (CPU).")
    ] = None

    input: Annotated[
        str,
        typer.Option(help="constant, or sequence: x is [N, T, ...], recordings of T frames, and a frame is a step."),
    ] = "constant"

    def __post_init__(self) -> None:
        self.settings: dict[str, str | None] = {}

    @functools.cached_property
    def placed(self) -> torch.device:
        """Where the networks run."""
        return find_device(self.device)

    @functools.cached_property
    def network(self) -> nn.Module:
        where = self.placed
        model = load_model(self.model, self.weights, self.classes, self.pretrained).to(where)
        if is_random(self.model, self.weights, self.pretrained):
            say("neither --weights nor --pretrained: the network's weights are random", "yellow")
        return model

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        options = {name: getattr(self, name) for name in ("size", "resize", "crop", "mean", "std", "transform")}
        network = None if self.model is None else self.network
        return preprocessing.find(self.model or "", network, self.pretrained, **options)

    @functools.cached_property
    def test(self) -> Data:
        return self.read(self.data)

    @property
    def frames(self) -> int:
        """Frames of a recording of the test data, with ``--input sequence``; else 0.

        Raises:
            InputError: data without a time axis.
        """
        if self.input != "sequence":
            return 0
        x = self.test.tensors(1)[0]
        if x.dim() < 3:
            raise InputError(f"{self.test.name}: --input sequence needs x of shape [N, T, ...], got {list(x.shape)}")
        return int(x.shape[1])

    def read(self, path: Path) -> Data:
        """The inputs at ``path``; says once what is made of pictures and of bytes."""
        found = load_data(path, self.preprocessing)
        told = self.__dict__.setdefault("told", {""})
        if found.words not in told:
            say(found.words)
            told.add(found.words)
        return found

    def check_classes(self, data: Data) -> None:
        """Refuse labels that the network cannot give, before the work.

        Raises:
            InputError: what is to be done about them.
        """
        if not data.labelled:
            return
        x, _ = data.tensors(1)
        try:
            with torch.no_grad():
                scores = self.network(x.to(self.placed))
        except (RuntimeError, ValueError, IndexError, TypeError):
            return  # inputs that do not fit: the conversion says how
        if isinstance(scores, torch.Tensor) and scores.dim() == 2:
            data.check_classes(scores.shape[1])

    def load(self, saved: Path) -> Any:
        """The network in the file ``saved``, where the networks run."""
        import snnconv

        return self._in_precision(snnconv.load(saved).to(self.placed))

    def spiking(self, saved: Path | None = None, **settings: str | None) -> Any:
        """The network in the file ``saved``, or one converted now; ``settings`` go before the user's."""
        import snnconv
        from snnconv.selection.recommendation import describe

        if saved is not None:
            loaded = self.load(saved)
            made_from = loaded.made_from(self.network)
            if made_from is False:
                raise InputError(
                    f"{saved} was converted from other weights than {self.model} has: give the --weights that it was "
                    "converted from, or leave out --snn"
                )
            if made_from is None:
                say(f"{saved} does not say which network it was converted from", "yellow")
            return loaded
        method = cli_inputs.make_method(self.method, {**self.settings, **settings})
        network = self.network
        calibration, seen = self._calibration(network)
        say(f"converting {self.model} by {describe(method)}, {seen}")
        return self._in_precision(
            snnconv.convert(
                network,
                method,
                calibration=calibration,
                framework=self.framework,
                cover=self.cover,
                encode_input=self.encode_input,
                normalisation=self.normalisation,
                overrides=cli_inputs.make_overrides(method, self.override or []),
                exclude=self.exclude or (),
                timesteps=None if self.budget is None else "auto",
                budget=self.budget,
                input=self.input,
            )
        )

    def _calibration(self, network: nn.Module) -> tuple[Any, str]:
        """What calibrates, and that in words."""
        import snnconv

        if self.calibration == WITHOUT_DATA and not WITHOUT_DATA.exists():
            known = snnconv.calibrate(
                network,
                self.test.inputs(1),
                cover=self.cover,
                encode_input=self.encode_input,
                statistics="batch_norm",
            )
            return known, "calibrated on what its BatchNorms have learned"
        source = self.test if self.calibration is None else self.read(self.calibration)
        count = min(self.calibration_images, source.count)
        return source.inputs(self.calibration_images), f"calibrated on {count:,} inputs of {source.name}"

    def _in_precision(self, snn: Any) -> Any:
        if self.precision is not None:
            snn.precision = self.precision
            for layer, reason in snn.float_layers.items():
                say(f"float32: {layer}: {reason}")
        return snn

    def page(self, saved: Path) -> str:
        """The command that makes a page on the network in the file ``saved``.

        >>> Given(model="timm:resnet26", data=Path("val")).page(Path("net.snn.safetensors"))
        'snnconv report net.snn.safetensors --model timm:resnet26 --data val --html report.html'
        """
        words = shlex.split(self.again("report"))
        return shlex.join([*words[:2], str(saved), "--model", *words[2:], "--html", "report.html"])

    def again(self, command: str, *more: str, method: Any = None, data: bool = True) -> str:
        """Another command on the same network and data; ``method``: with it and its settings.

        >>> Given(model="timm:resnet26", data=Path("val"), classes=10).again("eval", "--snn", "net.snn.safetensors")
        'snnconv eval timm:resnet26 --data val --classes 10 --snn net.snn.safetensors'
        """
        words = ["snnconv", command, *([self.model] if self.model else [])]
        if data and self.data is not None:
            words += ["--data", str(self.data)]
        if method is not None:
            words += ["--method", method.name.replace("_", "-")]
            for field in method.choices():
                value = getattr(method, field.name)
                if value != field.default:
                    words += [f"--{field.name.replace('_', '-')}", str(value)]
        repeated = REPEATED if method is None else (*REPEATED, *CONVERTING)
        for option in dataclasses.fields(self):
            value = getattr(self, option.name)
            if option.name in repeated and value != option.default:
                name = f"--{option.name.replace('_', '-')}"
                for item in value if isinstance(value, list) else [value]:
                    words += [name] if item is True else [name, str(item)]
        return shlex.join([*words, *more])
