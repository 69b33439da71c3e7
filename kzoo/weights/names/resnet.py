"""Residual networks in timm, torchvision and keras.applications."""

from kzoo.preprocessing import imagenet
from kzoo.weights.names.table import KERAS_CAFFE, Rule, Table

V2 = {"pre_activation": True}

TORCH = (
    Rule("stem_conv", "conv1"),
    Rule("stem_norm", "bn1"),
    Rule("stage_{i}_block_{j}_conv_{k}", "layer{i+1}.{j}.conv{k+1}"),
    Rule("stage_{i}_block_{j}_norm_{k}", "layer{i+1}.{j}.bn{k+1}"),
    Rule("stage_{i}_block_{j}_se_reduce", "layer{i+1}.{j}.se.fc1"),
    Rule("stage_{i}_block_{j}_se_expand", "layer{i+1}.{j}.se.fc2"),
    Rule("stage_{i}_block_{j}_shortcut_conv", "layer{i+1}.{j}.downsample.0"),
    Rule("stage_{i}_block_{j}_shortcut_norm", "layer{i+1}.{j}.downsample.1"),
    Rule("logits", "fc"),
)
TIMM_V2 = (
    Rule("stem_conv", "stem.conv", when=V2),
    Rule("stage_{i}_block_{j}_conv_{k}", "stages.{i}.blocks.{j}.conv{k+1}", when=V2),
    Rule("stage_{i}_block_{j}_norm_{k}", "stages.{i}.blocks.{j}.norm{k+1}", when=V2),
    Rule(
        "stage_{i}_block_{j}_shortcut_conv",
        "stages.{i}.blocks.{j}.downsample.conv",
        when=V2,
    ),
    Rule("final_norm", "norm", when=V2),
    Rule("logits", "head.fc", convolution=True, when=V2),
)

# keras.applications: biases before the normalisations, the stride in the first 1x1.
KERAS = (
    Rule("stem_conv", "conv1_conv", bias_into="stem_norm"),
    Rule("stem_norm", "conv1_bn"),
    Rule(
        "stage_{i}_block_{j}_conv_{k}",
        "conv{i+2}_block{j+1}_{k+1}_conv",
        bias_into="stage_{i}_block_{j}_norm_{k}",
    ),
    Rule("stage_{i}_block_{j}_norm_{k}", "conv{i+2}_block{j+1}_{k+1}_bn"),
    Rule(
        "stage_{i}_block_{j}_shortcut_conv",
        "conv{i+2}_block{j+1}_0_conv",
        bias_into="stage_{i}_block_{j}_shortcut_norm",
    ),
    Rule("stage_{i}_block_{j}_shortcut_norm", "conv{i+2}_block{j+1}_0_bn"),
    Rule("logits", "predictions"),
)

SOURCES = {
    "timm": Table(TIMM_V2 + TORCH, preprocessing=imagenet(interpolation="bicubic")),
    "torchvision": Table(TORCH),
    "keras": Table(
        KERAS,
        framework="keras",
        hparams={"strided_conv": "1x1"},
        preprocessing=KERAS_CAFFE,
    ),
}
