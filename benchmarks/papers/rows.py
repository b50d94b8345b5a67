"""What each of the five papers ran, network by network, and the configs of it here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from benchmarks.papers.row import Row

__all__ = ["ROWS"]


def _names(folder: str, *stems: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{stem}" for stem in stems)


_OWN = "not in the paper; "
_RNL = {"RNL": (16, 32, 64, 256), "largest activation": (16, 32, 64, 256)}
_SIGNED = {"signed IF": (), "signed IF, fine-tuned": ()}
_LTB: dict[str, tuple[int, ...]] = {"LTB": ()}


def _preact(depth: int, data: str, *more: str) -> Row:
    folder = data.lower().replace("-", "")
    stems = (f"preactresnet{depth}_activated_rate_norm", *more)
    return Row(f"PreActResNet-{depth}", data, _names(folder, *stems), _RNL)


def _bits(network: str, *stems: str) -> Row:
    return Row(network, "CIFAR-10", _names("cifar10", *stems), _SIGNED)


def _weights_too(network: str, stem: str) -> Row:
    """Fast-SNN's protocol: APoT weights, one width from the next."""
    return _bits(network, stem, *(f"{stem}_w{bits}" for bits in (4, 3, 2)))


def _levels(network: str, data: str, folder: str, stem: str) -> Row:
    return Row(
        network, data, _names(folder, stem, *(f"{stem}_quant{n}" for n in ("", 7, 3))), {"signed IF, trained": ()}
    )


def _each(
    data: str,
    folder: str,
    stems: Mapping[str, str],
    published: Mapping[str, tuple[str, str]] = MappingProxyType({}),
) -> tuple[Row, ...]:
    """A row a network, for LTB."""
    return tuple(
        Row(network, data, _names(folder, stem), _LTB, published.get(network)) for network, stem in stems.items()
    )


_SEGMENTATION = {
    "FCN ResNet-18": "fcn_r18",
    "FCN ResNet-34": "fcn_r34",
    "FCN ResNet-50": "fcn_r50",
    "FCN ResNet-50 (torchvision)": "torchvision_fcn_resnet50",
    "FCN ResNet-101 (torchvision)": "torchvision_fcn_resnet101",
    "DeepLab ResNet-18": "deeplabv3_r18",
    "DeepLab ResNet-34": "deeplabv3_r34",
    "DeepLab ResNet-50": "deeplabv3_r50",
    "DeepLab ResNet-50 (torchvision)": "torchvision_deeplabv3_resnet50",
    "DeepLab MobileNetV3 (torchvision)": "torchvision_deeplabv3_mobilenet",
}
_POLICY = "a policy trained here"


ROWS: dict[str, tuple[Row, ...]] = {
    "rnl": (
        Row(
            "not named in the abstract",
            "not named",
            published=(None, None),
            why="against what the paper calls the typical method; ours is the row `largest activation` below",
        ),
        Row(
            "ResNet-20",
            "CIFAR-10",
            _names("cifar10", "resnet20_rate_norm", "resnet20_rate_norm_stage2"),
            _RNL,
            why=_OWN + "two epochs from given weights, `scaled=True`, frozen statistics; 2,000 test images",
        ),
        Row("VGG-13", "CIFAR-10", _names("cifar10", "vgg13_rate_norm"), _RNL),
        Row("VGG-16", "CIFAR-10", _names("cifar10", "vgg16_rate_norm", "vgg16_rate_norm_stage2"), _RNL),
        Row("VGG-19", "CIFAR-10", _names("cifar10", "vgg19_rate_norm"), _RNL),
        Row("ResNet-34", "CIFAR-10", _names("cifar10", "resnet34_rate_norm"), _RNL),
        _preact(18, "CIFAR-10", "preactresnet18_activated_rate_norm_stage2", "preactresnet18_rate_norm"),
        _preact(34, "CIFAR-10"),
        _preact(50, "CIFAR-10"),
        _preact(101, "CIFAR-10"),
        Row("VGG-16", "CIFAR-100", _names("cifar100", "vgg16_rate_norm", "vgg16_rate_norm_stage2"), _RNL),
        _preact(18, "CIFAR-100"),
        _preact(34, "CIFAR-100"),
        Row("Tiny YOLO with strides", "VOC 2007", _names("voc", "yolov2_tiny_strided_rate_norm"), _RNL),
        Row("DeepLabv1-VGG9", "VOC 2012", _names("voc2012", "deeplabv1_vgg9_rate_norm"), _RNL),
    ),
    "fast_snn": (
        _weights_too("AlexNet with strides", "alexnet_strided"),
        _weights_too("VGG-11 with strides", "vgg11_strided"),
        _weights_too("ResNet-18", "resnet18"),
        Row(
            "ResNet-20",
            "CIFAR-10",
            _names("cifar10", "resnet20", *(f"resnet20_w{bits}" for bits in (4, 3, 2))),
            _SIGNED,
            why="`resnet20` is converted without training; the others are not trained",
        ),
        Row(
            "ResNet-20, weights of full precision",
            "CIFAR-10",
            _names("cifar10", "resnet20_quant7", "resnet20_quant3", "resnet20_quant3_stage2", "resnet20_quant3_stage3"),
            _SIGNED,
            why=_OWN + "a clip a channel, fine-tuned from the network with ReLU",
        ),
        _weights_too("ResNet-32", "resnet32"),
        _weights_too("ResNet-44", "resnet44"),
        _weights_too("ResNet-56", "resnet56"),
        _weights_too("ResNet-110", "resnet110"),
        Row(
            "AlexNet",
            "ImageNet",
            _names("imagenet", "alexnet", "alexnet_quant15", "alexnet_quant7", "alexnet_quant3"),
            _SIGNED,
        ),
        Row(
            "VGG-16", "ImageNet", _names("imagenet", "vgg16_bn_quant15", "vgg16_bn_quant7", "vgg16_bn_quant3"), _SIGNED
        ),
        _levels("Tiny YOLO with strides", "VOC 2007", "voc", "yolov2_tiny_strided"),
        _levels("YOLOv2-ResNet-34", "VOC 2007", "voc", "yolov2_r34"),
        _levels("Tiny YOLO with strides", "COCO 2017", "coco", "yolov2_tiny_strided"),
        _levels("YOLOv2-ResNet-34", "COCO 2017", "coco", "yolov2_r34"),
        _levels("DeepLabv1-VGG9", "VOC 2012", "voc2012", "deeplabv1_vgg9"),
        _levels("DeepLabv3-ResNet-34 + ASPP", "VOC 2012", "voc2012", "deeplabv3_aspp_r34"),
        _levels("DeepLabv1-VGG9", "COCO 2017, 80 classes", "coco_things", "deeplabv1_vgg9"),
        _levels("DeepLabv3-ResNet-34 + ASPP", "COCO 2017, 80 classes", "coco_things", "deeplabv3_aspp_r34"),
    ),
    "srp": (
        Row(
            "ResNet-20, 4 levels",
            "CIFAR-10",
            _names("cifar10", "resnet20_qcfs4"),
            {"SRP": (), "IF": ()},
            why=_OWN + "τ = 4; fine-tuned for four epochs with LSQ's gradient, IF read at τ + T",
        ),
        Row(
            "ResNet-20, 8 levels",
            "CIFAR-10",
            _names("cifar10", "resnet20_qcfs8"),
            {"SRP": (), "IF": ()},
            why=_OWN + "as above",
        ),
        *(
            Row(name, "CIFAR-10", _names("cifar10", f"{stem}_qcfs4_scratch"), {"SRP": ()})
            for name, stem in (("VGG-16", "vgg16"), ("ResNet-18", "resnet18"), ("ResNet-20", "resnet20"))
        ),
        *(
            Row(name, "CIFAR-100", _names("cifar100", f"{stem}_qcfs4_scratch"), {"SRP": ()}, ("CIFAR-100", name))
            for name, stem in (("VGG-16", "vgg16"), ("ResNet-18", "resnet18"), ("ResNet-20", "resnet20"))
        ),
        Row(
            "VGG-16, τ = 14",
            "ImageNet",
            _names("imagenet", "vgg16_bn_qcfs16_scratch", "vgg16_bn_qcfs16"),
            {"SRP": ()},
            ("ImageNet", "VGG-16"),
        ),
        Row(
            "ResNet-34, τ = 8",
            "ImageNet",
            _names("imagenet", "resnet34_qcfs8_scratch", "resnet34_qcfs8"),
            {"SRP": ()},
            ("ImageNet", "ResNet-34"),
        ),
    ),
    "shifted": (
        Row(
            "not named in the abstracts",
            "ImageNet",
            published=("ImageNet", None),
            why="the configs below are of the networks that torchvision has weights for",
        ),
        Row(
            "ResNet-20",
            "CIFAR-10",
            _names("cifar10", "resnet20_quant3_stage3", "resnet20_quant7", "resnet20_quant15"),
            {"shifted threshold": ()},
            why=_OWN + "lossless but for the rounding of floating point",
        ),
        Row(
            "ResNet-20, bit sparsity",
            "CIFAR-10",
            _names("cifar10", "resnet20_sparse", "resnet20_sparse_stage2"),
            {"shifted threshold": ()},
            why=_OWN + "bits weighted by synapses",
        ),
        Row(
            "VGG-16",
            "CIFAR-10",
            _names("cifar10", "vgg16_quant15", "vgg16_quant7", "vgg16_quant3"),
            {"shifted threshold": ()},
            why="trained for a few epochs; 2,000 test images",
        ),
        *(
            Row(name, data, _names(folder, *(f"{stem}_quant{n}" for n in (15, 7, 3))), {"shifted threshold": ()})
            for name, data, folder, stem in (
                ("ResNet-18", "CIFAR-10", "cifar10", "resnet18"),
                ("PreActResNet-18", "CIFAR-10", "cifar10", "preactresnet18"),
                ("ResNet-20", "CIFAR-100", "cifar100", "resnet20"),
                ("VGG-16", "CIFAR-100", "cifar100", "vgg16"),
            )
        ),
        *(
            Row(name, "ImageNet", _names("imagenet", f"{stem}_quant15"), {"shifted threshold": ()})
            for name, stem in (
                ("ResNet-18", "resnet18"),
                ("ResNet-34", "resnet34"),
                ("ResNet-50", "resnet50"),
                ("MobileNetV2", "mobilenet_v2"),
            )
        ),
        Row("Swin-T", "ImageNet", _names("imagenet", "swin_t"), {"shifted threshold": ()}),
    ),
    "ltb": (
        Row(
            "ResNet-20",
            "CIFAR-10",
            _names("cifar10", "resnet20"),
            {"LTB, delayed readout": ()},
            why=_OWN + "`python -m benchmarks.cifar10 --methods ltb`; balanced until updates settle",
        ),
        Row("small VGG with strides", "CIFAR-10", _names("cifar10", "vgg_strided"), _LTB, why=_OWN + "trained here"),
        Row("ResNet-18", "ImageNet", _names("imagenet", "resnet18", "resnet18_ltb5000"), _LTB),
        Row(
            "ResNet-34", "ImageNet", _names("imagenet", "resnet34", "resnet34_ltb5000"), _LTB, ("ImageNet", "ResNet-34")
        ),
        Row("MobileNetV2", "ImageNet", _names("imagenet", "mobilenet_v2", "mobilenet_v2_ltb5000"), _LTB),
        *_each(
            "ImageNet",
            "imagenet",
            {
                "ResNet-50": "resnet50",
                "VGG-16": "vgg16_bn",
                "RegNetX-400MF": "regnet_x_400mf",
                "RegNetX-800MF": "regnet_x_800mf",
                "RegNetX-1.6GF": "regnet_x_1_6gf",
                "RegNetX-3.2GF": "regnet_x_3_2gf",
                "RegNetX-8GF": "regnet_x_8gf",
            },
        ),
        *_each(
            "VOC 2012", "voc2012", _SEGMENTATION, {"DeepLab ResNet-34": ("Pascal VOC 2012 aug", "DeepLab ResNet-34")}
        ),
        *_each(
            "COCO 2017, VOC's classes",
            "coco_voc",
            _SEGMENTATION,
            {"DeepLab ResNet-50 (torchvision)": ("COCO 2017", "DeepLab ResNet-50")},
        ),
        *_each(
            "COCO 2017",
            "coco",
            {
                "RetinaNet ResNet-50 (torchvision)": "torchvision_retinanet_r50",
                "FCOS ResNet-50 (torchvision)": "torchvision_fcos_r50",
                "RetinaNet ResNet-50": "retinanet_r50",
                "FCOS ResNet-50": "fcos_r50",
                "RetinaNet ResNet-18": "retinanet_r18",
                "FCOS ResNet-18": "fcos_r18",
            },
        ),
        Row("RetinaNet ResNet-18", "BCCD", _names("bccd", "retinanet_r18"), _LTB, why=_OWN + "its own data set"),
        Row("FCN ResNet-18", "CamVid", _names("camvid", "fcn_r18"), _LTB, why=_OWN + "its own data set"),
        Row("MC3-18", "S-Kinetics-400", _names("kinetics400", "mc3_18_small"), _LTB, ("S-Kinetics-400", "MC3-18")),
        *_each(
            "Kinetics-400",
            "kinetics400",
            {"MC3-18": "mc3_18", "R3D-18": "r3d_18", "R(2+1)D-18": "r2plus1d_18", "S3D": "s3d"},
        ),
        Row("R3D", "digits in motion", _names("moving_digits", "r3d_small"), _LTB, why=_OWN + "its own data set"),
        Row("SAC, 64-64", "InvertedDoublePendulum-v5", _names("inverted_double_pendulum", "sac"), _LTB, why=_POLICY),
        Row("SAC, 128-128", "Hopper-v5", _names("hopper", "sac_128"), _LTB, why=_POLICY),
        Row("TD3, 128-128", "HalfCheetah-v5", _names("half_cheetah", "td3_128"), _LTB, why=_POLICY),
        Row("SAC, 256-256", "Walker2d-v5", _names("walker2d", "sac"), _LTB),
        Row("TD3, 256-256", "Walker2d-v5", _names("walker2d", "td3"), _LTB),
    ),
}
"""Table → its rows."""
