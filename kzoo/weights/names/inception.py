"""GoogLeNet in torchvision; Inception V3 there, in timm and in keras.applications."""

import dataclasses

from kzoo.models.inception import INCEPTION_V3_STAGES, SPLIT
from kzoo.preprocessing import imagenet
from kzoo.weights.names.table import Rule, Table


def units(kzoo: str, source: str) -> tuple[Rule, Rule]:
    """A convolution and its normalisation."""
    return Rule(f"{kzoo}_conv", f"{source}.conv"), Rule(f"{kzoo}_norm", f"{source}.bn")


# The papers count stages by resolution and blocks by letters.
GOOGLENET = (
    *units("stem_{k}", "conv{k+1}"),
    *units("stage_{i}_block_{j}_branch1", "inception{i+3}{j:a}.branch1"),
    *units("stage_{i}_block_{j}_branch{b}_{k}", "inception{i+3}{j:a}.branch{b}.{k}"),
    *units("aux_early", "aux1.conv"),
    *units("aux_late", "aux2.conv"),
    Rule("aux_early_dense", "aux1.fc1", grid=4),
    Rule("aux_late_dense", "aux2.fc1", grid=4),
    Rule("logits_early", "aux1.fc2"),
    Rule("logits_late", "aux2.fc2"),
    Rule("logits", "fc"),
)

STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
BRANCHES = ("1x1", "3x3", "3x3dbl", "5x5", "7x7", "7x7dbl", "7x7x3", "_pool")


def mixed(branch: str) -> tuple[Rule, ...]:
    """A branch of any block: of one convolution, of several, and with a fork."""
    rules: list[Rule] = []
    for stage, source in (
        ("0", "Mixed_5{j:b}"),
        ("1", "Mixed_6{j:a}"),
        ("2", "Mixed_7{j:a}"),
    ):
        left = f"stage_{stage}_block_{{j}}_branch{branch}"
        right = f"{source}.branch{branch}"
        for end in ("", "_{k}", "_{k}a", "_{k}b"):
            rules += units(left + end, right + end)
    return tuple(rules)


INCEPTION_V3 = (
    *(
        rule
        for k, end in enumerate(STEM)
        for rule in units(f"stem_{k}", f"Conv2d_{end}")
    ),
    *(rule for branch in BRANCHES for rule in mixed(branch)),
    *units("aux_{k}", "AuxLogits.conv{k}"),
    Rule("logits_aux", "AuxLogits.fc"),
    Rule("logits", "fc"),
)


def in_order() -> tuple[Rule, ...]:
    """keras.applications only numbers its convolutions, as they were made."""
    names = [f"stem_{k}" for k in range(len(STEM))]
    for i, stage in enumerate(INCEPTION_V3_STAGES):
        for j, branches in enumerate(stage):
            for branch, convs in branches.items():
                for k, conv in enumerate(convs, start=1):
                    name = f"stage_{i}_block_{j}_branch{branch}"
                    name += f"_{k}" if len(convs) > 1 else ""
                    sides = "ab" if conv[1] == SPLIT else ("",)
                    names += [name + side for side in sides]
    rules: list[Rule] = []
    for number, name in enumerate(names):
        end = f"_{number}" if number else ""
        rules.append(Rule(f"{name}_conv", f"conv2d{end}"))
        rules.append(Rule(f"{name}_norm", f"batch_normalization{end}"))
    return tuple(rules)


# The weights were trained on pixels from -1 to 1; torchvision's networks bring their
# inputs there themselves, from ImageNet's mean and spread.
PIXELS = imagenet(mean=(0.5, 0.5, 0.5), spread=(0.5, 0.5, 0.5))
GOOGLENET_SOURCES = {
    "torchvision": Table(GOOGLENET, aside=(r"aux[12]\..*",), preprocessing=PIXELS)
}
INCEPTION_V3_SOURCES = {
    "timm": Table(
        INCEPTION_V3,
        aside=(r"AuxLogits\..*",),
        preprocessing=dataclasses.replace(PIXELS, interpolation="bicubic"),
    ),
    "torchvision": Table(
        INCEPTION_V3,
        aside=(r"AuxLogits\..*",),
        preprocessing=dataclasses.replace(PIXELS, crop_rate=299 / 342),
    ),
    "keras": Table(
        (*in_order(), Rule("logits", "predictions")),
        framework="keras",
        hparams={"edge_mean": "real"},
        numbered=("conv2d", "batch_normalization"),
        ones=(r"batch_normalization(_\d+)?\.gamma",),
        preprocessing=PIXELS,
    ),
}
