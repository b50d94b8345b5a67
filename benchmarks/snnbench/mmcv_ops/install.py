"""The operators that mmcv's Python code expects of its compiled module ``mmcv._ext``, where that is not installed.

mmcv-lite has every file of ``mmcv.ops`` but not the compiled module that they call, so that ``import mmdet`` fails.
:func:`install` puts a module of that name in its place, on torch and torchvision: the operators of the common
detectors and segmentation networks, for every device and floating-point type that torch has. Anything else raises
:class:`MissingOperator` when it is called, not when it is imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Literal, NoReturn

__all__ = ["NAME", "SUPPLIED", "MissingOperator", "compiled_spec", "install", "status"]

NAME = "mmcv._ext"

SUPPLIED: dict[str, str] = {
    "nms": "nms",
    "softnms": "nms",
    "roi_align_forward": "roi",
    "roi_align_backward": "roi",
    "roi_pool_forward": "roi",
    "roi_pool_backward": "roi",
    "sigmoid_focal_loss_forward": "focal",
    "sigmoid_focal_loss_backward": "focal",
    "softmax_focal_loss_forward": "focal",
    "softmax_focal_loss_backward": "focal",
    "deform_conv_forward": "deform",
    "deform_conv_backward_input": "deform",
    "deform_conv_backward_parameters": "deform",
    "modulated_deform_conv_forward": "deform",
    "modulated_deform_conv_backward": "deform",
}
"""The operators that :func:`install` supplies, and the file of each."""


class MissingOperator(NotImplementedError):
    """An operator of mmcv that only its compiled module has was called."""


def install() -> Literal["compiled", "fallback", "absent"]:
    """Make ``mmcv.ops`` importable; calling it again changes nothing. Call it before mmdet or mmseg is imported.

    Returns:
        ``"compiled"``: mmcv's own compiled operators are installed and used, nothing was replaced;
        ``"fallback"``: the operators of this package stand in for them; ``"absent"``: there is no mmcv.

    Raises:
        ImportError: the compiled module is there but does not load, or torchvision is missing.

    Example:
        >>> install() in ("compiled", "fallback", "absent")
        True
    """
    state = status()
    if state == "compiled":
        _load_compiled()
    elif state == "fallback":
        module = sys.modules.get(NAME) or _create()
        sys.modules[NAME] = module
        try:
            importlib.import_module("mmcv").__dict__.setdefault("_ext", module)
        except BaseException:
            del sys.modules[NAME]
            raise
    return state


def status() -> Literal["compiled", "fallback", "absent"]:
    """What :func:`install` gives here, see there; imports nothing and changes nothing.

    Example:
        >>> status() in ("compiled", "fallback", "absent")
        True
    """
    loaded = sys.modules.get(NAME)
    if loaded is not None:
        return "fallback" if isinstance(loaded, _Operators) else "compiled"
    if _folders() is None:
        return "absent"
    return "compiled" if compiled_spec() is not None else "fallback"


def compiled_spec() -> ModuleSpec | None:
    """Where mmcv's compiled module is, or ``None``; does not import mmcv, as ``importlib.util.find_spec`` would."""
    folders = _folders()
    if folders is None:
        return None
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(NAME, folders, None)
        except (AttributeError, KeyError):  # an old kind of finder; a mere folder of that name, for which it needs mmcv
            continue
        if spec is not None and spec.loader is not None:  # no loader: a mere folder again
            return spec
    return None


def _folders() -> list[str] | None:
    """The folders of the package mmcv, or ``None`` if it is not installed."""
    if "mmcv" in sys.modules:
        folders = getattr(sys.modules["mmcv"], "__path__", None)
    else:
        spec = importlib.util.find_spec("mmcv")
        folders = spec.submodule_search_locations if spec is not None else None
    return None if folders is None else list(folders)


def _load_compiled() -> None:
    importlib.import_module("mmcv")  # apart, so that a package that it lacks is not taken for the operators' fault
    try:
        importlib.import_module(NAME)
    except ImportError as error:
        import torch

        spec = compiled_spec()
        raise ImportError(
            f"mmcv's compiled operators ({spec.origin if spec else NAME}) do not load: {error}; they were built for "
            f"another torch than {torch.__version__}. Build mmcv for this one, or install mmcv-lite in its place, "
            "whose operators snnconv supplies",
            name=NAME,
        ) from error


# --- the module that stands in -----------------------------------------------------------------------------


class _Operators(ModuleType):
    """Has every name: mmcv looks for those of all its operators when ``mmcv.ops`` is imported."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        if name.startswith("_"):  # of Python's own machinery, not an operator
            raise AttributeError(f"module {NAME!r} has no attribute {name!r}")

        def missing(*args: Any, **kwargs: Any) -> NoReturn:
            raise MissingOperator(
                f"mmcv's operator {name!r} needs full mmcv (the one with the compiled module {NAME}); it is not among "
                f"the {len(SUPPLIED)} that snnbench supplies in its place"
            )

        return missing


class _Loader(Loader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = _Operators(spec.name, __doc__)
        for name, file in SUPPLIED.items():
            setattr(module, name, getattr(importlib.import_module(f"snnbench.mmcv_ops.{file}"), name))
        # mmcv lists both in its report of the environment
        vars(module).update(get_compiler_version=_compiler, get_compiling_cuda_version=_compiling_cuda)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing: the module is complete as it was made."""


def _create() -> ModuleType:
    # a real spec and loader: mmengine asks importlib for them to see whether full mmcv is there
    try:
        return importlib.util.module_from_spec(ModuleSpec(NAME, _Loader(), origin=__name__))
    except ModuleNotFoundError as error:
        raise ImportError(
            f"the operators that stand in for mmcv's compiled ones need {error.name}: pip install {error.name}",
            name=error.name,
        ) from error


def _compiler() -> str:
    return "none: snnconv's operators on torch and torchvision"


def _compiling_cuda() -> str:
    import torch

    return torch.version.cuda or "not available"
