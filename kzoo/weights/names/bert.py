"""BERT, DistilBERT and RoBERTa in transformers."""

from collections.abc import Callable, Mapping
from typing import Any

from kzoo.preprocessing import Preprocessing
from kzoo.weights.names.table import Configuration, Rule, Table

Values = Mapping[str, Any]

NO_HEAD = {"num_classes": 0}
A_TOKEN = {"per_step": True}
# What other heads than kzoo's leave in a file, and buffers of older files.
ASIDE = (
    r"cls\.",
    r"lm_head\.",
    r"vocab_",
    r"qa_outputs\.",
    r"(\w+\.)?pooler\.",
    r".*position_ids",
)
# Not in the files of models that predict masked tokens.
OPTIONAL = (r"(\w+\.)?pooler\.",)
RENAMED = (
    (r"\.LayerNorm\.gamma$", ".LayerNorm.weight"),
    (r"\.LayerNorm\.beta$", ".LayerNorm.bias"),
)


def bert_rules(base: str) -> tuple[Rule, ...]:
    """What BERT and RoBERTa call alike, in the module ``base``."""
    embeddings = f"{base}.embeddings."
    block = f"{base}.encoder.layer.{{i}}."
    return (
        Rule("embedding", embeddings + "word_embeddings"),
        Rule("segments", embeddings + "token_type_embeddings"),
        Rule("positions/table", embeddings + "position_embeddings.weight"),
        Rule("embedding_norm", embeddings + "LayerNorm"),
        Rule("block_{i}_query", block + "attention.self.query"),
        Rule("block_{i}_key", block + "attention.self.key"),
        Rule("block_{i}_value", block + "attention.self.value"),
        Rule("block_{i}_output", block + "attention.output.dense"),
        Rule("block_{i}_attention_norm", block + "attention.output.LayerNorm"),
        Rule("block_{i}_mlp_in", block + "intermediate.dense"),
        Rule("block_{i}_mlp_out", block + "output.dense"),
        Rule("block_{i}", block + "output.LayerNorm"),
    )


def head_of(entries: Values) -> Values:
    """``num_classes`` and ``per_step``, by the class that wrote the checkpoint."""
    architecture = (entries.get("architectures") or [""])[0]
    labels = len(entries.get("id2label") or {}) or entries.get("num_labels", 2)
    if architecture.endswith("ForSequenceClassification"):
        return {"num_classes": labels}
    if architecture.endswith("ForTokenClassification"):
        return {"num_classes": labels, "per_step": True}
    return {"num_classes": 0}


def architecture_of(stem: str) -> Callable[[Values], Values]:
    """The class that reads a model of these hyper-parameters."""

    def entries(hparams: Values) -> Values:
        one_answer = hparams["num_classes"] and not hparams["per_step"]
        if one_answer and hparams["pooling"] != "first":
            raise ValueError(
                f"transformers' {stem} reads its answer off the first token: "
                f"pooling={hparams['pooling']!r} cannot be written so"
            )
        kind = (
            "ForTokenClassification"
            if hparams["per_step"]
            else ("ForSequenceClassification")
        )
        return {"architectures": [stem + (kind if hparams["num_classes"] else "Model")]}

    return entries


BERT_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_dim",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "mlp_dim",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout_rate",
    "attention_probs_dropout_prob": "attention_dropout_rate",
    "type_vocab_size": "num_segments",
    "layer_norm_eps": "norm_epsilon",
    "pad_token_id": "pad_token_id",
}
BERT_DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
}
BERT_FIXED = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


def bert_head(entries: Values) -> Values:
    """The head, and its dropout, which is that of the blocks unless it says more."""
    rate = entries.get("classifier_dropout")
    rate = entries["hidden_dropout_prob"] if rate is None else rate
    return {**head_of(entries), "head_dropout_rate": rate}


def roberta_read(entries: Values) -> Values:
    """The table of positions has rows for the padding and what is before it."""
    rows = entries["max_position_embeddings"]
    length = rows - (entries["pad_token_id"] or 0) - 1
    return {**bert_head(entries), "sequence_length": length}


def roberta_write(hparams: Values) -> Values:
    """The other way."""
    rows = hparams["sequence_length"] + (hparams["pad_token_id"] or 0) + 1
    return {
        **architecture_of("Roberta")(hparams),
        "max_position_embeddings": rows,
        "classifier_dropout": hparams["head_dropout_rate"],
    }


BERT = Table(
    (
        *bert_rules("bert"),
        Rule("pooled", "bert.pooler.dense"),
        Rule("logits", "classifier"),
    ),
    base="bert",
    configuration=Configuration(
        names={**BERT_KEYS, "max_position_embeddings": "sequence_length"},
        defaults=BERT_DEFAULTS,
        fixed={"model_type": "bert", **BERT_FIXED},
        read=bert_head,
        write=lambda hparams: {
            **architecture_of("Bert")(hparams),
            "classifier_dropout": hparams["head_dropout_rate"],
        },
    ),
    aside=ASIDE,
    optional=OPTIONAL,
    renamed=(*RENAMED, (r"^(embeddings|encoder|pooler)\.", r"bert.\1.")),
    preprocessing=Preprocessing(),
)

ROBERTA = Table(
    (
        *bert_rules("roberta"),
        # Its classifier has the pooler's shape and place, and a name of its own.
        Rule("pooled", "roberta.pooler.dense", when=NO_HEAD),
        Rule("pooled", "classifier.dense"),
        Rule("logits", "classifier", when=A_TOKEN),
        Rule("logits", "classifier.out_proj"),
    ),
    base="roberta",
    configuration=Configuration(
        names=BERT_KEYS,
        defaults={**BERT_DEFAULTS, "vocab_size": 50265, "pad_token_id": 1},
        fixed={"model_type": "roberta", **BERT_FIXED},
        read=roberta_read,
        write=roberta_write,
    ),
    aside=ASIDE,
    optional=OPTIONAL,
    renamed=(*RENAMED, (r"^(embeddings|encoder|pooler)\.", r"roberta.\1.")),
    preprocessing=Preprocessing(),
)

BLOCK = "distilbert.transformer.layer.{i}."
DISTILBERT = Table(
    (
        Rule("embedding", "distilbert.embeddings.word_embeddings"),
        Rule("positions/table", "distilbert.embeddings.position_embeddings.weight"),
        Rule("embedding_norm", "distilbert.embeddings.LayerNorm"),
        Rule("block_{i}_query", BLOCK + "attention.q_lin"),
        Rule("block_{i}_key", BLOCK + "attention.k_lin"),
        Rule("block_{i}_value", BLOCK + "attention.v_lin"),
        Rule("block_{i}_output", BLOCK + "attention.out_lin"),
        Rule("block_{i}_attention_norm", BLOCK + "sa_layer_norm"),
        Rule("block_{i}_mlp_in", BLOCK + "ffn.lin1"),
        Rule("block_{i}_mlp_out", BLOCK + "ffn.lin2"),
        Rule("block_{i}", BLOCK + "output_layer_norm"),
        Rule("logits_hidden_layer", "pre_classifier"),
        Rule("logits", "classifier"),
    ),
    base="distilbert",
    configuration=Configuration(
        names={
            "vocab_size": "vocab_size",
            "max_position_embeddings": "sequence_length",
            "n_layers": "num_layers",
            "n_heads": "num_heads",
            "dim": "hidden_dim",
            "hidden_dim": "mlp_dim",
            "dropout": "dropout_rate",
            "attention_dropout": "attention_dropout_rate",
            "activation": "activation",
            "seq_classif_dropout": "head_dropout_rate",
            "pad_token_id": "pad_token_id",
        },
        defaults={
            "vocab_size": 30522,
            "max_position_embeddings": 512,
            "n_layers": 6,
            "n_heads": 12,
            "dim": 768,
            "hidden_dim": 3072,
            "dropout": 0.1,
            "attention_dropout": 0.1,
            "activation": "gelu",
            "seq_classif_dropout": 0.2,
            "pad_token_id": 0,
        },
        # Sinusoids are written as a table, too.
        fixed={"model_type": "distilbert"},
        read=head_of,
        write=architecture_of("DistilBert"),
    ),
    aside=ASIDE,
    renamed=(*RENAMED, (r"^(embeddings|transformer)\.", r"distilbert.\1.")),
    preprocessing=Preprocessing(),
)

SOURCES = {"transformers": BERT}
ROBERTA_SOURCES = {"transformers": ROBERTA}
DISTILBERT_SOURCES = {"transformers": DISTILBERT}
