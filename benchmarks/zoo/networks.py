"""Published networks whose conversion is checked for equality: random weights, statistics that fit, small inputs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, Any]


@dataclass(frozen=True)
class Network:
    """A network: whose it is, and how it is made.

    Attributes:
        name: its name.
        package: who publishes it; it is imported where the network is made.
        make: the network, and its inputs, as they are given to it.
    """

    name: str
    package: str
    make: Callable[[], Made] = field(repr=False)

    def build(self) -> Made:
        """The network in evaluation mode, with normalisations that have seen data, and inputs; always the same.

        Raises:
            ImportError: a package that is not installed, or does not work here.
        """
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, x = self.make()
            return with_statistics(model, x), x


def with_statistics(model: nn.Module, x: Any) -> nn.Module:
    """Give random weights what trained ones have: BatchNorms that have seen data, no branch that is switched off."""
    seeing = [m for m in model.eval().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for module in model.modules():
            weight = getattr(module, "weight", None)
            if isinstance(weight, Tensor) and weight.dim() == 1 and not weight.any():
                weight.fill_(1.0)  # the last norm of a residual branch
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("gamma", "layer_scale")) and float(parameter.abs().max()) < 1e-3:
                parameter.fill_(0.5)  # so little of a branch says nothing about it
        for module in seeing:
            module.train()
            module.momentum = None
        called(model, x)
    return model.eval()


def called(model: nn.Module, x: Any) -> Any:
    """The network's answer to inputs as a network has them: a tensor, or a dictionary."""
    return model(**x) if isinstance(x, dict) else model(x)


def pictures(size: int, count: int = 4) -> Tensor:
    """Pictures of noise."""
    return torch.randn(count, 3, size, size)


# --- torchvision and timm --------------------------------------------------------------------------------------


def _torchvision(name: str, size: int = 32, **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        import torchvision

        return torchvision.models.get_model(name, weights=None, num_classes=10, **options), pictures(size)

    return make


def _small_vit() -> Made:
    import torchvision

    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=3, num_heads=4, hidden_dim=48, mlp_dim=96, num_classes=10
    )
    nn.init.normal_(model.heads.head.weight, std=0.1)  # zeros, as it is made
    return model, pictures(32)


def _timm(name: str, size: int = 32, count: int = 4, **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        import timm

        return timm.create_model(name, pretrained=False, num_classes=10, **options), pictures(size, count)

    return make


# --- Hugging Face ----------------------------------------------------------------------------------------------


def _hugging_face(config: str, model: str, inputs: Callable[[], Any], **options: Any) -> Callable[[], Made]:
    def make() -> Made:
        try:
            import torchaudio  # noqa: F401
        except (ImportError, OSError, RuntimeError):
            sys.modules["torchaudio"] = None  # type: ignore[assignment]  # one that does not fit torch: as if absent
        import transformers

        made = getattr(transformers, model)(getattr(transformers, config)(**options))
        return made, inputs()

    return make


def _tokens() -> Any:
    return {"input_ids": torch.randint(0, 64, (4, 10)), "attention_mask": torch.ones(4, 10, dtype=torch.int64)}


def _pixels(size: int = 32) -> Callable[[], Any]:
    return lambda: {"pixel_values": pictures(size)}


_TEXT: dict[str, Any] = dict(
    vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
)
_VIT: dict[str, Any] = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, image_size=32, patch_size=8
)
_STAGES: dict[str, Any] = dict(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1])


def _hf_detr() -> Made:
    return _hugging_face(
        "DetrConfig", "DetrForObjectDetection", _pixels(64), use_timm_backbone=False, use_pretrained_backbone=False,
        backbone=None, backbone_config=_hf_backbone(), num_channels=3, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, num_queries=5,
    )()  # fmt: skip


def _hf_backbone() -> Any:
    import transformers

    return transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip


# --- mmdet, mmseg ----------------------------------------------------------------------------------------------


class Maps(nn.Module):
    """Of a detector or a segmenter all up to the raw maps; what follows picks and suppresses boxes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        features = self.model.extract_feat(x)
        head = next(h for h in ("rpn_head", "decode_head", "bbox_head") if getattr(self.model, h, None) is not None)
        return getattr(self.model, head)(features)


class BoxHead(nn.Module):
    """Of a two-stage detector what it says of given boxes: from pooled features to class scores, offsets, masks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.box, self.mask = model.roi_head.bbox_head, model.roi_head.mask_head

    def forward(self, pooled: Tensor) -> Any:
        return *self.box(pooled), self.mask(pooled)


class Queries(nn.Module):
    """Of a DETR the class scores and boxes of its queries, on pictures of one size."""

    def __init__(self, model: nn.Module, size: int) -> None:
        super().__init__()
        self.model, self.size = model, size

    def forward(self, x: Tensor) -> Any:
        from mmdet.structures import DetDataSample

        shape = dict(img_shape=(self.size,) * 2, batch_input_shape=(self.size,) * 2, pad_shape=(self.size,) * 2)
        return self.model._forward(x, [DetDataSample(metainfo=shape)])  # one speaks for all: none is padded


def _mm(package: str, config: dict[str, Any], part: Callable[[nn.Module], nn.Module], x: Callable[[], Any]) -> Any:
    def make() -> Made:
        import importlib

        from mmengine.config import ConfigDict

        import snnbench.networks  # noqa: F401 - puts what mmcv-lite lacks in its place

        registry = importlib.import_module(f"{package}.registry")
        importlib.import_module(f"{package}.utils").register_all_modules()
        return part(registry.MODELS.build(ConfigDict(config))), x()

    return make


_BN = dict(type="BN", momentum=0.03, eps=0.001)
_TEST = dict(score_thr=0.01, nms=dict(type="nms", iou_threshold=0.65))
_YOLOX = dict(
    type="YOLOX", data_preprocessor=dict(type="DetDataPreprocessor"),
    backbone=dict(type="CSPDarknet", deepen_factor=0.33, widen_factor=0.125),
    neck=dict(type="YOLOXPAFPN", in_channels=[32, 64, 128], out_channels=32, num_csp_blocks=1),
    bbox_head=dict(type="YOLOXHead", num_classes=3, in_channels=32, feat_channels=32, stacked_convs=1),
    test_cfg=_TEST,
)  # fmt: skip
_RTMDET = dict(
    type="RTMDet", data_preprocessor=dict(type="DetDataPreprocessor"),
    backbone=dict(
        type="CSPNeXt", arch="P5", expand_ratio=0.5, deepen_factor=0.167, widen_factor=0.125, channel_attention=True,
        norm_cfg=dict(type="BN"), act_cfg=dict(type="SiLU", inplace=True),
    ),
    neck=dict(
        type="CSPNeXtPAFPN", in_channels=[32, 64, 128], out_channels=32, num_csp_blocks=1, expand_ratio=0.5,
        norm_cfg=dict(type="BN"), act_cfg=dict(type="SiLU", inplace=True),
    ),
    bbox_head=dict(
        type="RTMDetSepBNHead", num_classes=3, in_channels=32, stacked_convs=1, feat_channels=32,
        anchor_generator=dict(type="MlvlPointGenerator", offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type="DistancePointBBoxCoder"), exp_on_reg=False, share_conv=True, pred_kernel_size=1,
        norm_cfg=dict(type="BN"), act_cfg=dict(type="SiLU", inplace=True),
    ),
    test_cfg=_TEST,
)  # fmt: skip
_YOLOV3 = dict(
    type="YOLOV3", data_preprocessor=dict(type="DetDataPreprocessor"),
    backbone=dict(type="MobileNetV2", out_indices=(2, 4, 6), act_cfg=dict(type="LeakyReLU", negative_slope=0.1)),
    neck=dict(type="YOLOV3Neck", num_scales=3, in_channels=[320, 96, 32], out_channels=[32, 24, 16]),
    bbox_head=dict(
        type="YOLOV3Head", num_classes=3, in_channels=[32, 24, 16], out_channels=[32, 24, 16],
        anchor_generator=dict(
            type="YOLOAnchorGenerator", strides=[32, 16, 8],
            base_sizes=[[(116, 90), (156, 198)], [(30, 61), (62, 45)], [(10, 13), (16, 30)]],
        ),
        bbox_coder=dict(type="YOLOBBoxCoder"), featmap_strides=[32, 16, 8],
    ),
    test_cfg=_TEST,
)  # fmt: skip
_ATTENTION = dict(embed_dims=32, num_heads=4, dropout=0.0)
_FEEDFORWARD = dict(
    embed_dims=32, feedforward_channels=48, num_fcs=2, ffn_drop=0.0, act_cfg=dict(type="ReLU", inplace=True)
)
_RESNET = dict(
    type="ResNet", depth=18, base_channels=8, num_stages=4, norm_cfg=dict(type="BN"), norm_eval=True, style="pytorch"
)
_DETR = dict(
    type="DETR", num_queries=5, data_preprocessor=dict(type="DetDataPreprocessor"),
    backbone=_RESNET | dict(out_indices=(3,)),
    neck=dict(
        type="ChannelMapper", in_channels=[64], kernel_size=1, out_channels=32, act_cfg=None, norm_cfg=None, num_outs=1
    ),
    encoder=dict(num_layers=1, layer_cfg=dict(self_attn_cfg=_ATTENTION, ffn_cfg=_FEEDFORWARD)),
    decoder=dict(
        num_layers=1, return_intermediate=True,
        layer_cfg=dict(self_attn_cfg=_ATTENTION, cross_attn_cfg=_ATTENTION, ffn_cfg=_FEEDFORWARD),
    ),
    positional_encoding=dict(num_feats=16, normalize=True),
    bbox_head=dict(type="DETRHead", num_classes=3, embed_dims=32),
    test_cfg=dict(max_per_img=5),
)  # fmt: skip
_TWO_STAGES = dict(
    rpn=dict(nms_pre=100, max_per_img=10, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0),
    rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=10, mask_thr_binary=0.5),
)
_SIZES = dict(type="DeltaXYWHBBoxCoder", target_means=[0.0] * 4, target_stds=[0.1, 0.1, 0.2, 0.2])
_MASK_RCNN = dict(
    type="MaskRCNN", train_cfg=None, test_cfg=_TWO_STAGES, data_preprocessor=dict(type="DetDataPreprocessor"),
    backbone=_RESNET | dict(out_indices=(0, 1, 2, 3)),
    neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=16, num_outs=5),
    rpn_head=dict(
        type="RPNHead", in_channels=16, feat_channels=16,
        anchor_generator=dict(type="AnchorGenerator", scales=[8], ratios=[1.0], strides=[4, 8, 16, 32, 64]),
        bbox_coder=_SIZES,
    ),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor", roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=16, featmap_strides=[4, 8, 16, 32],
        ),
        bbox_head=dict(
            type="Shared2FCBBoxHead", in_channels=16, fc_out_channels=32, roi_feat_size=7, num_classes=3,
            bbox_coder=_SIZES, reg_class_agnostic=False,
        ),
        mask_roi_extractor=dict(
            type="SingleRoIExtractor", roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=16, featmap_strides=[4, 8, 16, 32],
        ),
        mask_head=dict(type="FCNMaskHead", num_convs=2, in_channels=16, conv_out_channels=16, num_classes=3),
    ),
)  # fmt: skip
_HEAD = dict(channels=16, num_classes=4, align_corners=False, norm_cfg=dict(type="BN"), dropout_ratio=0.0)


def _segmenter(backbone: dict[str, Any], head: dict[str, Any]) -> Callable[[], Made]:
    config = dict(type="EncoderDecoder", backbone=backbone, decode_head=_HEAD | head, test_cfg=dict(mode="whole"))
    made: Callable[[], Made] = _mm("mmseg", config, Maps, lambda: pictures(64, 2))
    return made


_SEGFORMER = _segmenter(
    dict(
        type="MixVisionTransformer", embed_dims=8, num_stages=4, num_layers=[1, 1, 1, 1], num_heads=[1, 2, 2, 4],
        patch_sizes=[7, 3, 3, 3], sr_ratios=[4, 2, 2, 1], mlp_ratio=2,
    ),
    dict(type="SegformerHead", in_channels=[8, 16, 16, 32], in_index=[0, 1, 2, 3]),
)  # fmt: skip
_FCN = dict(type="FCNHead", in_index=0, num_convs=1, concat_input=False)
_CONVNEXT = _segmenter(
    dict(type="TIMMBackbone", model_name="convnext_atto", features_only=True, pretrained=False),
    _FCN | dict(in_channels=320, in_index=3),
)
_SWIN = _segmenter(
    dict(
        type="SwinTransformer", pretrain_img_size=64, embed_dims=12, depths=(2, 2), num_heads=(2, 2), window_size=4,
        strides=(4, 2), out_indices=(1,), mlp_ratio=2, drop_path_rate=0.0,
    ),
    _FCN | dict(in_channels=24),
)  # fmt: skip


def _named(package: str, **made: Callable[[], Made]) -> dict[str, Network]:
    return {f"{package}/{name}": Network(f"{package}/{name}", package, make) for name, make in made.items()}


NETWORKS: dict[str, Network] = {
    **_named(
        "torchvision",
        resnet18=_torchvision("resnet18"),
        efficientnet_b0=_torchvision("efficientnet_b0"),
        mobilenet_v2=_torchvision("mobilenet_v2"),
        mobilenet_v3_small=_torchvision("mobilenet_v3_small"),
        convnext_tiny=_torchvision("convnext_tiny"),
        vit_b_16_small=_small_vit,
        swin_t=_torchvision("swin_t"),
    ),
    **_named(
        "timm",
        vit_tiny_patch16_224=_timm("vit_tiny_patch16_224", img_size=32, patch_size=8),
        convnext_atto=_timm("convnext_atto"),
        cspdarknet53=_timm("cspdarknet53"),
        efficientvit_m0=_timm("efficientvit_m0", 64, img_size=64),
        levit_128s=_timm("levit_128s", 64, img_size=64),
        mobilevit_xxs=_timm("mobilevit_xxs", 64),
        repvgg_d2se=_timm("repvgg_d2se"),
        bat_resnext26ts=_timm("bat_resnext26ts", 256, 2),
        botnet26t_256=_timm("botnet26t_256", 64, img_size=64),
    ),
    **_named(
        "transformers",
        vit=_hugging_face("ViTConfig", "ViTForImageClassification", _pixels(), **_VIT),
        swin=_hugging_face(
            "SwinConfig", "SwinForImageClassification", _pixels(), image_size=32, patch_size=2, embed_dim=16,
            depths=[2, 2], num_heads=[2, 2], window_size=4,
        ),
        segformer=_hugging_face(
            "SegformerConfig", "SegformerForSemanticSegmentation", _pixels(64), depths=[1, 1, 1, 1],
            hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 2, 3, 4], decoder_hidden_size=24,
        ),
        detr=_hf_detr,
        convnext=_hugging_face("ConvNextConfig", "ConvNextForImageClassification", _pixels(), **_STAGES),
        mobilenet_v1=_hugging_face(
            "MobileNetV1Config", "MobileNetV1ForImageClassification", _pixels(), depth_multiplier=0.25, image_size=32
        ),
        mobilenet_v2=_hugging_face(
            "MobileNetV2Config", "MobileNetV2ForImageClassification", _pixels(), depth_multiplier=0.35, image_size=32
        ),
        bert=_hugging_face("BertConfig", "BertForSequenceClassification", _tokens, **_TEXT),
        llama=_hugging_face("LlamaConfig", "LlamaForSequenceClassification", _tokens, pad_token_id=0, **_TEXT),
    ),
    **_named(
        "mmdet",
        yolox=_mm("mmdet", _YOLOX, Maps, lambda: pictures(64, 2)),
        rtmdet=_mm("mmdet", _RTMDET, Maps, lambda: pictures(64, 2)),
        yolov3=_mm("mmdet", _YOLOV3, Maps, lambda: pictures(64, 2)),
        detr=_mm("mmdet", _DETR, lambda model: Queries(model, 64), lambda: pictures(64, 2)),
        mask_rcnn=_mm("mmdet", _MASK_RCNN, Maps, lambda: pictures(64, 2)),
        mask_rcnn_boxes=_mm("mmdet", _MASK_RCNN, BoxHead, lambda: torch.randn(6, 16, 7, 7)),
    ),
    **_named("mmseg", segformer=_SEGFORMER, convnext=_CONVNEXT, swin=_SWIN),
}  # fmt: skip
"""Checked for equality, each by its package and name."""
