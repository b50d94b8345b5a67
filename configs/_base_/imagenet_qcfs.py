# ImageNet: a network with torchvision's weights, fine-tuned for three epochs with QCFS activations; SRP beside IF. A
# config names the network, the levels and τ, and the transform that belongs to its weights.
_base_ = "./imagenet_quant15.py"

model = dict(network=dict(activation=dict(type="QCFS")))
