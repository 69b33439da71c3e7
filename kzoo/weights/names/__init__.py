"""What other zoos call the weights of a family: tables, one file a family.

``SOURCES[family][source]`` is a :class:`Table`. One rule is a pair of templates,

    Rule("stage_{i}_block_{j}_conv_{k}", "layer{i+1}.{j}.conv{k+1}")

kzoo's layer and the source's module. Every index of the left may stand on the right,
in a sum: ``{n+2*i+1}``. The right knows three more, for modules that the source only
numbers: ``{n}`` counts the blocks over all stages, ``{m}`` the parts of the block that
hold weights (what follows the block's name, up to the next ``_``), both from 0, and
``{blocks}`` is how many blocks there are. ``{j:a}`` is a letter: a, b, c. Of several
rules the first that fits counts.

A rule may name one weight by its whole path, and then the source's tensor instead of a
module; and ``part`` puts several weights into one tensor:

    Rule("class_token/token", "cls_token", axes=(None, None, 0))
    Rule("block_{i}_query", "blocks.{i}.attn.qkv", part=0)
"""

from collections.abc import Mapping

from kzoo.weights.names import (
    alexnet,
    bert,
    convnext,
    densenet,
    efficientnet,
    gpt2,
    inception,
    mlp_mixer,
    mobilenet,
    resnet,
    shufflenet_v2,
    squeezenet,
    swin,
    t5,
    vgg,
    vit,
)
from kzoo.weights.names.table import Rule, Table

__all__ = ["SOURCES", "Rule", "Table"]

SOURCES: Mapping[str, Mapping[str, Table]] = {
    "alexnet": alexnet.SOURCES,
    "bert": bert.SOURCES,
    "convnext": convnext.SOURCES,
    "deit": vit.DEIT_SOURCES,
    "densenet": densenet.SOURCES,
    "distilbert": bert.DISTILBERT_SOURCES,
    "efficientnet": efficientnet.SOURCES,
    "googlenet": inception.GOOGLENET_SOURCES,
    "gpt2": gpt2.SOURCES,
    "inception_v3": inception.INCEPTION_V3_SOURCES,
    "mlp_mixer": mlp_mixer.SOURCES,
    "mobilenet": mobilenet.SOURCES,
    "resnet": resnet.SOURCES,
    "roberta": bert.ROBERTA_SOURCES,
    "shufflenet_v2": shufflenet_v2.SOURCES,
    "squeezenet": squeezenet.SOURCES,
    "swin": swin.SOURCES,
    "t5": t5.SOURCES,
    "vgg": vgg.SOURCES,
    "vit": vit.VIT_SOURCES,
}
