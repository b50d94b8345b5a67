"""``act_cfg`` of networks built from configs: ``dict(type="QuantReLU", levels=15)``, ``QCFS`` and ``RateNorm``.

mmcv's ``ConvModule`` and the networks of this folder build each activation from such a dict, so that every site gets
its own threshold. ``BatchNorm``'s outputs are near 1 in size: that is where the clip of `QuantReLU` starts from.
"""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS

from snnconv.activations import QCFS, QuantReLU, RateNorm

__all__ = ["qcfs", "quant_relu", "rate_norm"]


@MODELS.register_module(name="RateNorm", force=True)
def rate_norm(inplace: bool = False, **settings: Any) -> RateNorm:
    """A rate norm layer; ``inplace``, which mmcv gives every activation, has no meaning here.

    >>> MODELS.build(dict(type="RateNorm", momentum=0.2, inplace=True)).momentum
    0.2
    """
    return RateNorm(**settings)


@MODELS.register_module(name="QuantReLU", force=True)
def quant_relu(levels: int, inplace: bool = False, **settings: Any) -> QuantReLU:
    """A quantised ReLU; ``inplace`` as in `rate_norm`.

    >>> MODELS.build(dict(type="QuantReLU", levels=3)).levels
    3
    """
    return QuantReLU(levels, **settings)


@MODELS.register_module(name="QCFS", force=True)
def qcfs(levels: int, inplace: bool = False, **settings: Any) -> QCFS:
    """A quantisation clip-floor-shift activation; ``inplace`` as in `rate_norm`.

    >>> MODELS.build(dict(type="QCFS", levels=4)).levels
    4
    """
    return QCFS(levels, **settings)
