"""Networks that do not trace: a module tree runs as it is, with every call of its forward watched."""

from snnconv.runtime.tree.program import TreeProgram

__all__ = ["TreeProgram"]
