"""mmengine registries of the scope ``snnbench``: what a config with ``default_scope = "snnbench"`` finds by name.

Configs of other scopes name the same things with the scope before them: ``dict(type="snnbench.TopK")``. mmengine looks
for a scope's registries in this place. There is a child for every root registry, because it warns about a scope that
lacks one; a name that is not found here is looked for in mmengine's own registries.
"""

from __future__ import annotations

from mmengine.registry import Registry, root

SCOPE = "snnbench"

_CHILDREN = {
    name: Registry(parent.name, parent=parent, scope=SCOPE, locations=["snnbench.tasks.classification"])
    for name, parent in vars(root).items()
    if isinstance(parent, Registry)
}

MODELS = _CHILDREN["MODELS"]
DATASETS = _CHILDREN["DATASETS"]
TRANSFORMS = _CHILDREN["TRANSFORMS"]
METRICS = _CHILDREN["METRICS"]
OPTIM_WRAPPERS = _CHILDREN["OPTIM_WRAPPERS"]
HOOKS = _CHILDREN["HOOKS"]
