"""SqueezeNet in torchvision: poolings and fire modules in one numbered sequence."""

from kzoo.weights.names.table import Rule, Table

SOURCES = {
    "torchvision": Table(
        (
            Rule("stem_conv", "features.0"),
            Rule("stage_{i}_block_{j}_squeeze", "features.{n+i+3}.squeeze"),
            Rule("stage_{i}_block_{j}_expand_1x1", "features.{n+i+3}.expand1x1"),
            Rule("stage_{i}_block_{j}_expand_3x3", "features.{n+i+3}.expand3x3"),
            Rule("logits_1x1", "classifier.1"),
        )
    )
}
