"""The command line: ``snnconv convert | eval | compare | profile | recommend | doctor``, and other packages' commands.

A package adds a command by an entry point of the group ``snnconv.commands``: a function with typer's annotations.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import nn

from snnconv.cli import inputs as cli_inputs
from snnconv.cli import preprocessing
from snnconv.cli.data import Data, load_data
from snnconv.cli.inputs import InputError, check_out
from snnconv.cli.models import is_random, load_model
from snnconv.cli.preprocessing import Preprocessing
from snnconv.cli.recommend import recommend

__all__ = ["app"]

app = typer.Typer(
    name="snnconv",
    help="Convert trained PyTorch networks into spiking networks, and measure them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Snn = Annotated[Path | None, typer.Option("--snn", help="A network saved by convert, instead of converting.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only N inputs, spread evenly over the data.")]


@dataclass(kw_only=True)
class Given:
    """What every command but doctor is given: each field is an argument or option."""

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
    calibration: Annotated[Path | None, typer.Option(help="Inputs for calibration; taken from --data by default.")] = (
        None
    )
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
    framework: Annotated[str, typer.Option(help="Whose neurons: spikingjelly or snntorch.")] = "spikingjelly"
    precision: Annotated[
        str | None, typer.Option(help="float32, or int8: 8-bit weights in layers that read spikes (CPU).")
    ] = None

    def __post_init__(self) -> None:
        self.settings: dict[str, str | None] = {}

    @functools.cached_property
    def network(self) -> nn.Module:
        model = load_model(self.model, self.weights, self.classes, self.pretrained)
        if is_random(self.model, self.weights, self.pretrained):
            typer.secho("neither --weights nor --pretrained: the network's weights are random", fg="yellow", err=True)
        return model

    @functools.cached_property
    def preprocessing(self) -> Preprocessing:
        options = {name: getattr(self, name) for name in ("size", "resize", "crop", "mean", "std", "transform")}
        return preprocessing.find(self.model, self.network, self.pretrained, **options)

    @functools.cached_property
    def test(self) -> Data:
        return self.read(self.data)

    def read(self, path: Path) -> Data:
        """The inputs at ``path``; says what is made of pictures."""
        found = load_data(path, self.preprocessing)
        if path.is_dir() and not self.__dict__.setdefault("told", False):
            typer.echo(self.preprocessing.words, err=True)
            self.__dict__["told"] = True
        return found

    def spiking(self, saved: Path | None = None, **settings: str | None) -> Any:
        """The network in the file ``saved``, or one converted now; ``settings`` go before the user's."""
        import snnconv

        if saved is not None:
            loaded = snnconv.load(saved)
            made_from = loaded.made_from(self.network)
            if made_from is False:
                raise InputError(
                    f"{saved} was converted from other weights than {self.model} has: give the --weights that it was "
                    "converted from, or leave out --snn"
                )
            if made_from is None:
                typer.secho(f"{saved} does not say which network it was converted from", fg="yellow", err=True)
            return self._in_precision(loaded)
        method = cli_inputs.make_method(self.method, {**self.settings, **settings})
        source = self.test if self.calibration is None else self.read(self.calibration)
        calibration = source.inputs(self.calibration_images)
        return self._in_precision(
            snnconv.convert(self.network, method, calibration=calibration, framework=self.framework)
        )

    def _in_precision(self, snn: Any) -> Any:
        if self.precision is not None:
            snn.precision = self.precision
            for layer, reason in snn.float_layers.items():
                typer.echo(f"float32: {layer}: {reason}", err=True)
        return snn


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Register a command.

    A first parameter ``given`` becomes the options of `Given` and the settings of every method; ``inputs`` those
    that describe the network and its data. An error is one sentence with exit status 2; ``--debug`` lets it through.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())
    first = own[0].name if own else ""
    takes_given = first in ("given", "inputs")
    shared: list[inspect.Parameter] = []
    settings: dict[str, str] = {}
    if takes_given:
        own = own[1:]
        shared = list(inspect.signature(Given, eval_str=True).parameters.values())
        if first == "given":
            settings = cli_inputs.method_fields()
        else:
            shared = [parameter for parameter in shared if parameter.name not in ("method", "framework", "precision")]

    @functools.wraps(function)
    def run(**arguments: Any) -> None:
        debug = arguments.pop("debug")
        try:
            if takes_given:
                names = [field.name for field in fields(Given)]
                given = Given(**{name: arguments.pop(name) for name in names if name in arguments})
                given.settings = {name: arguments.pop(name) for name in settings}
                arguments[first] = given
            function(**arguments)
        except (typer.Exit, typer.Abort, KeyboardInterrupt):
            raise
        except Exception as error:
            if debug:
                raise
            typer.secho(f"error: {_sentence(error)}", fg="red", err=True)
            raise typer.Exit(2) from None

    panel = "Settings of the method"
    parameters = [
        *shared,
        *own,
        *(
            _option(name, str | None, None, typer.Option(help=text, rich_help_panel=panel))
            for name, text in settings.items()
        ),
        _option("debug", bool, False, typer.Option("--debug", help="Show the traceback of an error.")),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    app.command(name=function.__name__.rstrip("_"))(run)
    return function


def _sentence(error: Exception) -> str:
    """What an error says; one of the operating system with its file first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


def _option(name: str, kind: Any, default: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


@command
def convert(
    given: Given,
    *,
    out: Annotated[Path, typer.Option(help="File to write, for instance net.snn.safetensors.")],
) -> None:
    """Convert a network and save the spiking one."""
    import snnconv

    check_out(out)
    snn = given.spiking()
    _show(snn.report)
    snnconv.save(snn, out)
    typer.echo(f"wrote {out}")


@command
def eval_(
    given: Given,
    *,
    at: Annotated[
        str | None,
        typer.Option(help="Convert once for each of these: 4,8,16. Default: --timesteps alone."),
    ] = None,
    snn: Snn = None,
    limit: Limit = None,
) -> None:
    """Accuracy against time steps, beside the source network's."""
    test = given.test
    if not test.labelled:
        raise InputError(f"{given.data} holds no labels: eval needs y beside x")
    steps: list[str] = []
    if snn is None:
        if at is None and given.settings.get("timesteps") is None:
            raise InputError("eval needs --timesteps N or --at 4,8,16 (or --snn FILE)")
        steps = _whole_numbers(at, "--at") if at is not None else [str(given.settings["timesteps"])]
    elif at is not None:
        raise InputError("--at converts; a saved network runs as it is, so leave out --at or --snn")
    count = min(limit or test.count, test.count)
    some = f" of {test.count:,}, spread evenly" if count < test.count else ""
    table = Table(title=f"top-1 accuracy on {count:,} inputs{some}")
    for name in ("network", "T", "accuracy (%)"):
        table.add_column(name, justify="left" if name == "network" else "right")
    (ann,) = _accuracy(lambda x: [(1, given.network(x))], test, limit, "ANN").values()
    table.add_row("ANN", "", f"{ann:.2f}")
    if snn is not None:
        loaded = given.spiking(saved=snn)
        shown = {*(2**k for k in range(loaded.timesteps.bit_length())), loaded.timesteps}
        for t, value in _accuracy(loaded.stream, test, limit, snn.name).items():
            if t in shown:
                table.add_row(snn.name, str(t), f"{value:.2f}")
    for number in steps:
        net = given.spiking(timesteps=number)

        def readout(x: torch.Tensor, net: Any = net) -> list[tuple[int, torch.Tensor]]:
            return [(net.timesteps, net(x))]

        for t, value in _accuracy(readout, test, limit, f"T={number}").items():
            table.add_row(given.method, str(t), f"{value:.2f}")
    Console().print(table)


@command
def compare(given: Given, *, snn: Snn = None, limit: Limit = 64) -> None:
    """Error of every layer, spiking against source: where the spiking network departs."""
    import snnconv

    _show(snnconv.compare(given.network, given.spiking(saved=snn), given.test.inputs(limit)))


@command
def profile(given: Given, *, snn: Snn = None, limit: Limit = 64) -> None:
    """Spikes, synaptic operations, energy and latency of a spiking network."""
    import snnconv

    _show(snnconv.profile(given.network, given.spiking(saved=snn), given.test.inputs(limit)))


command(recommend)


@command
def doctor() -> None:
    """What is installed, which backends work, what is missing and how to get it."""
    from snnconv.cli.doctor import check_all

    checks = check_all()
    table = Table(title="snnconv doctor")
    for name in ("part", "for", "state", "detail", "to get it"):
        table.add_column(name, overflow="fold")
    colours = {"ok": "green", "missing": "yellow", "broken": "red"}
    for check in checks:
        state = f"[{colours[check.state]}]{check.state}[/]"
        table.add_row(check.name, check.purpose, state, check.detail, check.advice.replace("[", "\\["))
    Console().print(table)
    if any(check.required and check.state != "ok" for check in checks):
        raise typer.Exit(2)


def _whole_numbers(text: str, option: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise InputError(f"{option} takes whole numbers from 1 on, separated by commas, got {text!r}")
    return parts


def _accuracy(readouts: Callable[..., Any], test: Data, limit: int | None, name: str) -> dict[int, float]:
    """Top-1 accuracy in percent at each step of ``readouts(x)``, which gives pairs (t, scores)."""
    correct: dict[int, int] = {}
    images = 0
    with torch.no_grad():
        for x, y in _bar(test, limit, name):
            for t, scores in readouts(x):
                if not isinstance(scores, torch.Tensor) or scores.dim() != 2:
                    got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
                    raise InputError(f"{name} gives {got}; accuracy needs class scores [batch, classes]")
                if not images:
                    test.check_classes(scores.shape[1])
                correct[t] = correct.get(t, 0) + int((scores.argmax(1) == y).sum())
            images += len(x)
    return {t: 100 * count / images for t, count in correct.items()}


def _bar(test: Data, limit: int | None, name: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task(name, total=min(limit or test.count, test.count))
        for x, y in test.batches(limit):
            assert y is not None
            yield x, y
            bar.advance(line, len(x))


def _show(result: Any) -> None:
    """Reports print as tables; rich ones in colour."""
    if hasattr(result, "__rich__") or hasattr(result, "__rich_console__"):
        Console().print(result)
    else:
        typer.echo(str(result))


for _entry in entry_points(group="snnconv.commands"):
    command(_entry.load())


if __name__ == "__main__":
    app()
