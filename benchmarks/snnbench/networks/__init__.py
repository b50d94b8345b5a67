"""Networks that configs name by ``custom_imports``, registered for mmseg, mmdet or mmengine."""

from snnbench.mmcv_ops.install import install

install()  # before any of the modules here imports mmdet or mmseg
