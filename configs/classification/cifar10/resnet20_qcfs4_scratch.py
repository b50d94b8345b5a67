"""CIFAR-10, ResNet-20 with QCFS activations (4 levels), from scratch; SRP beside IF at the same latency τ + T."""

_base_ = "../../_base_/cifar10_qcfs4.py"

model = dict(network=dict(type="CifarResNet", depth=20, act_cfg={{_base_.qcfs}}))
bench = dict(architecture="ResNet-20, QCFS (4 levels), from scratch")
