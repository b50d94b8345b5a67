"""A function as a command: its options, its errors in one sentence, its outcome in the form asked for."""

from __future__ import annotations

import functools
import inspect
import traceback
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from snnconv.cli import inputs as cli_inputs
from snnconv.cli.given import CONVERTING, Given
from snnconv.cli.inputs import InputError
from snnconv.cli.outcome import Drawn, Outcome, check_picture, emit, say

__all__ = ["EXAMPLES", "command_of", "register"]

EXAMPLES = "\nExamples:\n"
"""What divides a command's docstring: below stand commands, one a line."""
OF_METHODS = ("method", *CONVERTING)
"""Fields of `Given` that commands without a conversion of their own leave out."""
OPTIONAL = ("model", "data")
"""Fields of `Given` that a command may have as parameters of its own, to do without them."""


def register(app: typer.Typer, function: Callable[..., Any]) -> None:
    """Add a function to the commands of ``app``, under its own name."""
    text, _, examples = (inspect.getdoc(function) or "").partition(EXAMPLES)
    lines = [line.strip() for line in examples.splitlines() if line.strip()]
    epilog = "\n\n".join(["For example:", *lines]) if lines else None
    name = function.__name__.rstrip("_").replace("_", "-")
    app.command(name=name, help=text, epilog=epilog)(command_of(function))


def command_of(function: Callable[..., Any]) -> Callable[..., None]:
    """``function`` with typer's signature.

    A first parameter ``given`` becomes the options of `Given` and the settings of every method; ``inputs`` those that
    describe the network and its data; a parameter of the function's own takes the place of one of the same name. Where
    an `Outcome` is returned there are ``--json`` and ``--csv``, where a `Drawn` is ``--plot`` too. An error is one
    sentence with exit status 2; ``--debug`` lets it through.
    """
    signature = inspect.signature(function, eval_str=True)
    own, returned = list(signature.parameters.values()), signature.return_annotation
    gives = [kind for kind in (*get_args(returned), returned) if isinstance(kind, type) and issubclass(kind, Outcome)]
    first = own[0].name if own and own[0].name in ("given", "inputs") else ""
    shared: list[inspect.Parameter] = []
    settings: dict[str, str] = {}
    if first:
        own = own[1:]
        taken = {parameter.name for parameter in own}
        shared = [p for p in inspect.signature(Given, eval_str=True).parameters.values() if p.name not in taken]
        if first == "given":
            settings = cli_inputs.method_fields()
        else:
            shared = [parameter for parameter in shared if parameter.name not in OF_METHODS]

    @functools.wraps(function)
    def run(**arguments: Any) -> None:
        debug = arguments.pop("debug")
        try:
            form, picture = _form(arguments)
            _check_apart(arguments, picture)
            if first:
                names = {parameter.name for parameter in shared} | {*OPTIONAL}
                kept = [field.name for field in fields(Given) if field.name in names]
                given = Given(**{name: arguments[name] for name in kept})
                given.settings = {name: arguments.pop(name) for name in settings}
                for parameter in shared:
                    arguments.pop(parameter.name)
                arguments[first] = given
            found = function(**arguments)
            if isinstance(found, Outcome):
                emit(found, form, picture)
                if found.status:
                    raise typer.Exit(found.status)
        except (typer.Exit, typer.Abort, KeyboardInterrupt, BrokenPipeError):
            raise
        except Exception as error:
            if debug:
                raise
            say(f"error: {_sentence(error)}", "red")
            raise typer.Exit(2) from None

    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*shared, *own)]
    for name, text in settings.items():
        option = typer.Option(help=text, rich_help_panel="Settings of the method")
        parameters.append(_option(name, str | None, None, option))
    if gives:
        panel = "Output"
        if issubclass(gives[0], Drawn):
            option = typer.Option("--plot", help="Draw it into this file: .png, .svg or .pdf.", rich_help_panel=panel)
            parameters.append(_option("plot", Path | None, None, option))
        for form, text in (("json", "Print JSON, for scripts."), ("csv", "Print the rows as CSV.")):
            option = typer.Option(f"--{form}", help=text, rich_help_panel=panel)
            parameters.append(_option(form, bool, False, option))
    parameters.append(_option("debug", bool, False, typer.Option("--debug", help="Show the traceback of an error.")))
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _form(arguments: dict[str, Any]) -> tuple[str, Path | None]:
    """How to print, and where to draw; checked before the work."""
    asked = [form for form in ("json", "csv") if arguments.pop(form, False)]
    if len(asked) > 1:
        raise InputError("--json and --csv are two forms of one output: give one of them")
    picture = arguments.pop("plot", None)
    check_picture(picture)
    return asked[0] if asked else "table", picture


def _check_apart(arguments: dict[str, Any], picture: Path | None) -> None:
    """Refuse a file to write that the command reads: a slip of the name would cost the weights or the data.

    Raises:
        InputError: the option and the file.
    """
    written = {"--out": arguments.get("out"), "--html": arguments.get("html"), "--plot": picture}
    model = arguments.get("model")
    read = [value for name, value in arguments.items() if name not in ("out", "html")]
    read.append(Path(model.rpartition(":")[0]) if isinstance(model, str) else None)
    there = [path for path in read if isinstance(path, Path) and path.is_file()]
    for option, path in written.items():
        if isinstance(path, Path) and path.is_file() and any(path.samefile(other) for other in there):
            raise InputError(f"{option} {path} is a file that this command reads; give another name")


def _sentence(error: Exception) -> str:
    """What an error says; one of the operating system with its file first; a bare one with the line it is from."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (AttributeError, IndexError, KeyError, NameError, AssertionError)) or not str(error):
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(last.filename).name}, line {last.lineno}; --debug shows more)"
    return str(error)


def _option(name: str, kind: Any, default: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
