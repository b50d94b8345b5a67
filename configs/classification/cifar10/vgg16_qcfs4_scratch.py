"""CIFAR-10, VGG-16 with QCFS activations (4 levels), from scratch; SRP beside IF at the same latency τ + T."""

_base_ = "../../_base_/cifar10_qcfs4.py"

model = dict(network=dict(type="CifarVGG", depth=16, hidden=(4096, 4096), act_cfg={{_base_.qcfs}}))
bench = dict(architecture="VGG-16, QCFS (4 levels), from scratch")
