"""CIFAR-10, ResNet-18 with QCFS activations (4 levels), from scratch; SRP beside IF at the same latency τ + T."""

_base_ = "../../_base_/cifar10_qcfs4.py"

model = dict(network=dict(type="CifarResNet18", act_cfg={{_base_.qcfs}}))
bench = dict(architecture="ResNet-18, QCFS (4 levels), from scratch")
