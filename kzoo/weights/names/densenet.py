"""Densely connected networks in timm, torchvision and keras.applications."""

import dataclasses

from kzoo.preprocessing import imagenet
from kzoo.weights.names.table import Rule, Table

LAYER = "features.denseblock{i+1}.denselayer{j+1}"
TORCH = Table(
    (
        Rule("stem_conv", "features.conv0"),
        Rule("stem_norm", "features.norm0"),
        Rule("stage_{i}_block_{j}_conv_{k}", LAYER + ".conv{k+1}"),
        Rule("stage_{i}_block_{j}_norm_{k}", LAYER + ".norm{k+1}"),
        Rule("transition_{i}_norm", "features.transition{i+1}.norm"),
        Rule("transition_{i}_conv", "features.transition{i+1}.conv"),
        Rule("final_norm", "features.norm5"),
        Rule("logits", "classifier"),
    ),
    # torchvision's files of 2017 call a layer's parts norm.1, conv.1, norm.2, conv.2.
    renamed=((r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),),
)
TIMM = dataclasses.replace(TORCH, preprocessing=imagenet(interpolation="bicubic"))
KERAS = Table(
    (
        Rule("stem_conv", "conv1_conv"),
        Rule("stem_norm", "conv1_bn"),
        Rule("stage_{i}_block_{j}_conv_{k}", "conv{i+2}_block{j+1}_{k+1}_conv"),
        Rule("stage_{i}_block_{j}_norm_{k}", "conv{i+2}_block{j+1}_{k}_bn"),
        Rule("transition_{i}_norm", "pool{i+2}_bn"),
        Rule("transition_{i}_conv", "pool{i+2}_conv"),
        Rule("final_norm", "bn"),
        Rule("logits", "predictions"),
    ),
    framework="keras",
)

SOURCES = {"timm": TIMM, "torchvision": TORCH, "keras": KERAS}
