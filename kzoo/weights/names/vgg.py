"""VGG in timm, torchvision and keras.applications.

In PyTorch it is one numbered sequence, with poolings between stages.
"""

from kzoo.preprocessing import imagenet
from kzoo.weights.names.table import KERAS_CAFFE, Rule, Table

PLAIN, BATCH = {"normalization": "none"}, {"normalization": "batch"}
FEATURES = (
    Rule("stage_{i}_block_{j}_conv", "features.{2*n+i}", when=PLAIN),
    Rule("stage_{i}_block_{j}_conv", "features.{3*n+i}", when=BATCH),
    Rule("stage_{i}_block_{j}_norm", "features.{3*n+i+1}", when=BATCH),
)

SOURCES = {
    "timm": Table(
        (
            *FEATURES,
            Rule("dense_0", "pre_logits.fc1", grid="grid", convolution=True),
            Rule("dense_1", "pre_logits.fc2", convolution=True),
            Rule("logits", "head.fc"),
        ),
        preprocessing=imagenet(interpolation="bicubic"),
    ),
    "torchvision": Table(
        (
            *FEATURES,
            Rule("dense_0", "classifier.0", grid="grid"),
            Rule("dense_1", "classifier.3"),
            Rule("logits", "classifier.6"),
        )
    ),
    "keras": Table(
        (
            Rule("stage_{i}_block_{j}_conv", "block{i+1}_conv{j+1}"),
            Rule("dense_{k}", "fc{k+1}"),
            Rule("logits", "predictions"),
        ),
        framework="keras",
        preprocessing=KERAS_CAFFE,
    ),
}
