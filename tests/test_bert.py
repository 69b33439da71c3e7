"""BERT and its kin: counts of transformers' models, and what is theirs alone."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from parity import relative_error, state_of
from test_models import gradients

import kzoo
from kzoo.cli.main import main
from kzoo.layers.positions import CountedPositions
from kzoo.preprocessing import Preprocessing
from kzoo.preprocessing.text import train_tokenizer
from kzoo.training.plan import plan
from kzoo.weights.convert import from_source, to_source
from kzoo.weights.names import SOURCES
from kzoo.weights.pretrained import convert

# transformers' BertModel, DistilBertModel and RobertaModel: no head.
COUNTS = {
    "bert_tiny": 4_385_920,
    "bert_base": 109_482_240,
    "bert_large": 335_141_888,
    "distilbert_base": 66_362_880,
    "roberta_base": 124_645_632,
}


@pytest.mark.parametrize("name", COUNTS)
def test_count(name: str) -> None:
    found = kzoo.describe(name, num_classes=0)["trainable_parameters"]
    assert found == COUNTS[name]


@pytest.mark.contract
def test_positions_are_counted_past_the_padding() -> None:
    layer = CountedPositions(4, first=2)
    x = np.zeros((3, 4, 3), "float32")
    mask = np.array([[1, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
    found = keras.ops.convert_to_numpy(layer(x, mask=mask))
    table = keras.ops.convert_to_numpy(layer.table)
    assert len(table) == 6
    rows = [[2, 3, 4, 1], [1, 1, 2, 3], [1, 1, 1, 1]]
    np.testing.assert_allclose(found, table[rows], atol=1e-7)
    without = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(without, table[[[2, 3, 4, 5]] * 3], atol=1e-7)
    with pytest.raises(ValueError, match="a sequence of 5 steps is longer than the po"):
        layer(np.zeros((1, 5, 3), "float32"))


@pytest.mark.contract
def test_segments_change_the_answer() -> None:
    model = kzoo.build_model(
        "bert_tiny", vocab_size=9, hidden_dim=8, mlp_dim=8, segment_ids=True
    )
    tokens = np.array([[3, 4, 5, 0]], "int32")
    first, second = (
        keras.ops.convert_to_numpy(model({"tokens": tokens, "segment_ids": segments}))
        for segments in (np.zeros_like(tokens), np.array([[0, 0, 1, 0]], "int32"))
    )
    assert np.abs(first - second).max() > 1e-4


@pytest.mark.contract
@pytest.mark.parametrize("name", ["bert_tiny", "distilbert_base", "roberta_base"])
def test_one_answer_a_token(name: str) -> None:
    small = {"hidden_dim": 8, "num_heads": 2, "mlp_dim": 8, "num_layers": 1}
    model = kzoo.build_model(name, vocab_size=9, per_step=True, num_classes=5, **small)
    assert model.output_shape == (None, None, 5)
    assert "pooled" not in kzoo.list_features(model)
    maps = model.attention_maps(np.array([[3, 4, 5]], "int32"))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(maps["block_0"]).sum(-1), 1, atol=1e-6
    )


@pytest.mark.contract
@pytest.mark.parametrize("name", ["bert_tiny", "distilbert_base", "roberta_base"])
def test_the_mean_is_of_the_real_tokens(name: str) -> None:
    small = {"hidden_dim": 8, "num_heads": 2, "mlp_dim": 8, "num_layers": 1}
    values = {**small, "vocab_size": 9, "pooling": "mean", "pad_token_id": 0}
    model = kzoo.build_model(name, num_classes=0, **values)
    tokens = np.array([[3, 4, 5, 0], [6, 7, 0, 0]], "int32")
    found = kzoo.features(model, ["block_0", "pooled"])(tokens, training=False)
    steps, pooled = (
        keras.ops.convert_to_numpy(found[k]) for k in ("block_0", "pooled")
    )
    expected = np.stack([steps[0, :3].mean(0), steps[1, :2].mean(0)])
    np.testing.assert_allclose(pooled, expected, atol=1e-6)


# Beside transformers, on the same random weights

FAMILIES = {
    "bert_tiny": "Bert",
    "distilbert_base": "DistilBert",
    "roberta_base": "Roberta",
}
KINDS = ("Model", "ForSequenceClassification", "ForTokenClassification")
NUM_LAYERS, LENGTH = 3, 11
each_family = pytest.mark.parametrize("name", FAMILIES)


def peer_of(name: str, kind: str) -> Any:
    """A small model of transformers, odd in all its sizes, unlike a fresh one."""
    import torch
    import transformers

    sizes = {"hidden_size": 30, "num_attention_heads": 5, "num_hidden_layers": 3}
    sizes |= {"intermediate_size": 37, "max_position_embeddings": 21}
    if name == "distilbert_base":
        sizes["hidden_dim"] = sizes.pop("intermediate_size")
    stem = FAMILIES[name]
    config = getattr(transformers, f"{stem}Config")(
        vocab_size=50, num_labels=3, **sizes
    )
    peer = getattr(transformers, stem + kind)(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for path, parameter in peer.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(2 * drawn * parameter.shape[-1] ** -0.5)
            else:
                parameter.copy_(0.2 * drawn + path.endswith("weight"))
    return peer.eval()


def converted(peer: Any, name: str, **values: Any) -> keras.Model:
    """A model of kzoo on the peer's weights, with the sizes of the peer's config."""
    configuration = SOURCES[_family(name)]["transformers"].configuration
    assert configuration is not None
    entries = peer.config.to_dict() | {"architectures": [type(peer).__name__]}
    sizes = configuration.hparams(entries)
    found = from_source(state_of(peer), name, "transformers", **sizes | values)
    assert found.changes == ()
    return found.model


def _family(name: str) -> str:
    return name.partition("_")[0]


def tokens_of(pad_token_id: int) -> np.ndarray:
    """Three rows: one whole, one padded before, one after."""
    tokens = np.random.default_rng(0).integers(4, 50, (3, LENGTH))
    tokens[1, :4] = pad_token_id
    tokens[2, 7:] = pad_token_id
    return tokens.astype("int32")


@pytest.mark.peers
@pytest.mark.parametrize("kind", KINDS)
@each_family
def test_answers_as_its_peer_does(name: str, kind: str) -> None:
    import torch

    peer = peer_of(name, kind)
    model = converted(peer, name)
    tokens = tokens_of(peer.config.pad_token_id)
    with torch.no_grad():
        answer = peer(
            torch.from_numpy(tokens).long(),
            attention_mask=torch.from_numpy(tokens != peer.config.pad_token_id).long(),
            output_hidden_states=True,
        )
    taps = [f"block_{i}" for i in range(NUM_LAYERS)]
    found = kzoo.features(model, taps)(tokens, training=False)
    for tap, expected in zip(taps, answer.hidden_states[1:], strict=True):
        actual = keras.ops.convert_to_numpy(found[tap])
        assert relative_error(actual, expected.numpy()) < 1e-4, tap
    if kind == "Model":
        expected = answer.last_hidden_state[:, 0]
        expected = answer.get("pooler_output", expected)
    else:
        expected = answer.logits
    actual = keras.ops.convert_to_numpy(model(tokens, training=False))
    assert np.ptp(expected.numpy()) > 0.1
    assert relative_error(actual, expected.numpy()) < 1e-4
    # The same bits come back by the same names.
    there = state_of(peer)
    back = to_source(model, "transformers")
    assert back.keys() == there.keys()
    assert all(back[key].tobytes() == there[key].tobytes() for key in there)


@pytest.mark.peers
def test_segments_and_a_mask_of_ones_own_are_its_peers() -> None:
    import torch

    peer = peer_of("bert_tiny", "ForSequenceClassification")
    model = converted(peer, "bert_tiny", padding_mask=True, segment_ids=True)
    rng = np.random.default_rng(1)
    inputs = {
        "tokens": rng.integers(0, 50, (4, LENGTH), dtype="int32"),
        "padding_mask": rng.random((4, LENGTH)) < 0.7,
        "segment_ids": rng.integers(0, 2, (4, LENGTH), dtype="int32"),
    }
    with torch.no_grad():
        expected = peer(
            torch.from_numpy(inputs["tokens"]).long(),
            attention_mask=torch.from_numpy(inputs["padding_mask"]).long(),
            token_type_ids=torch.from_numpy(inputs["segment_ids"]).long(),
        ).logits
    actual = keras.ops.convert_to_numpy(model(inputs, training=False))
    assert relative_error(actual, expected.numpy()) < 1e-4


@pytest.mark.peers
@each_family
def test_embeddings_move_as_its_peers_do(name: str) -> None:
    import torch

    peer = peer_of(name, "ForSequenceClassification")
    model = converted(peer, name)
    padding = peer.config.pad_token_id
    tokens, labels = tokens_of(padding), np.array([0, 2, 1])
    logits = peer(
        torch.from_numpy(tokens).long(),
        attention_mask=torch.from_numpy(tokens != padding).long(),
    ).logits
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
    expected = peer.get_input_embeddings().weight.grad.numpy()
    actual = gradients(model, tokens, labels)["embedding/embeddings"]
    real = np.arange(50) != padding  # PyTorch keeps that row still
    assert relative_error(actual[real], expected[real]) < 1e-3


@pytest.mark.peers
@each_family
def test_folder_of_transformers_there_and_back(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import transformers

    peer = peer_of(name, "ForSequenceClassification")
    peer.save_pretrained(tmp_path / "theirs")
    command = ["convert", str(tmp_path / "theirs"), "--from", "transformers"]
    command += ["--name", name, "--out", str(tmp_path / "ours")]
    assert main(command) == 0
    model = kzoo.load(tmp_path / "ours")
    assert model.kzoo.hparams["mlp_dim"] == 37
    back = str(tmp_path / "back")
    command = ["convert", str(tmp_path / "ours"), "--to", "transformers"]
    assert main([*command, "--out", back]) == 0
    again = transformers.AutoModelForSequenceClassification.from_pretrained(back)
    assert type(again) is type(peer)
    before, after = state_of(peer), state_of(again)
    assert before.keys() == after.keys()
    assert all(before[key].tobytes() == after[key].tobytes() for key in before)
    assert main([*command, "--out", back]) == 2  # it is there already
    assert "not overwritten" in capsys.readouterr().err


# What a checkpoint may hold, without transformers


SMALL = {"hidden_dim": 8, "num_heads": 2, "mlp_dim": 12, "num_layers": 1}
SMALL |= {"vocab_size": 9, "sequence_length": 10}


def checkpoint(folder: Path, name: str, **values: Any) -> Path:
    """A folder as transformers writes it."""
    from kzoo.weights.checkpoints import write_checkpoint

    model = kzoo.build_model(name, **SMALL | values)
    tokenizer = train_tokenizer("character", ["yes no"])
    known = Preprocessing(classes=("yes", "no"), tokenizer=tokenizer)
    return write_checkpoint(model, "transformers", folder, known)


def test_sizes_and_classes_are_the_checkpoints(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "a", "bert_base", num_classes=2)
    found = convert("bert_large", str(folder))
    assert found.changes == ()
    assert found.model.kzoo.hparams.items() >= SMALL.items()
    assert found.preprocessing.classes == ("yes", "no")
    assert found.preprocessing.lengths == (8, 10)
    tokens = found.preprocessing.inputs(np.array(["yes"], object))
    assert tokens.shape == (1, 8) and (tokens[0, :3] > 1).all()
    with pytest.raises(ValueError, match="model_type='bert'; kzoo has 'roberta' alone"):
        convert("roberta_base", str(folder))


def test_the_mean_is_not_written_as_an_answer_off_the_first_token(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match="pooling='mean' cannot be written so"):
        checkpoint(tmp_path / "a", "bert_tiny", pooling="mean", num_classes=2)
    assert not (tmp_path / "a").exists()
    checkpoint(tmp_path / "a", "bert_tiny", pooling="mean", num_classes=0)
    found = convert("bert_tiny", str(tmp_path / "a"), pooling="mean", num_classes=2)
    assert [line.partition(" ")[0] for line in found.changes] == [
        "classifier.weight",
        "classifier.bias",
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_body_gets_a_fresh_head_and_a_head_is_left_aside(
    name: str, tmp_path: Path
) -> None:
    body = convert(name, str(checkpoint(tmp_path / "a", name, num_classes=0)))
    assert body.model.kzoo.hparams["num_classes"] == 0
    headed = convert(name, str(tmp_path / "a"), num_classes=5)
    assert headed.model.output_shape == (None, 5)
    assert all(
        "a fresh head" in change or "pooler" in change for change in headed.changes
    )
    assert any("classifier" in change for change in headed.changes)
    checkpoint(tmp_path / "b", name, num_classes=2)
    other = convert(name, str(tmp_path / "b"), num_classes=5)
    assert len(other.changes) == 2  # kernel and bias of the last layer alone
    without = convert(name, str(tmp_path / "b"), num_classes=0)
    assert all("no head" in c or "pooler" in c for c in without.changes)


def test_a_file_without_pooler_says_so(tmp_path: Path) -> None:
    state = to_source(kzoo.build_model("bert_tiny", **SMALL), "transformers")
    lacking = {key: value for key, value in state.items() if "pooler" not in key}
    found = from_source(lacking, "bert_tiny", "transformers", **SMALL)
    assert len(found.changes) == 2
    assert found.changes[0].startswith("bert.pooler.dense.")
    del lacking["bert.encoder.layer.0.output.dense.bias"]
    with pytest.raises(ValueError, match=r"\.0\.output\.dense\.bias' is missing"):
        from_source(lacking, "bert_tiny", "transformers", **SMALL)


def test_positions_are_cut_and_never_made_up() -> None:
    state = to_source(kzoo.build_model("roberta_base", **SMALL), "transformers")
    shorter = SMALL | {"sequence_length": 6}
    found = from_source(state, "roberta_base", "transformers", **shorter)
    table = found.model.get_layer("positions").table
    expected = state["roberta.embeddings.position_embeddings.weight"][:8]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(table.value), expected)
    with pytest.raises(ValueError, match="sequence_length is 10 at most"):
        longer = SMALL | {"sequence_length": 16}
        from_source(state, "roberta_base", "transformers", **longer)


def test_what_kzoo_has_not_is_refused() -> None:
    configuration = SOURCES["bert"]["transformers"].configuration
    assert configuration is not None
    with pytest.raises(ValueError, match="position_embedding_type='relative_key'; kz"):
        configuration.hparams({"position_embedding_type": "relative_key"})


def test_fine_tuning_on_shorter_texts_keeps_the_first_positions(tmp_path: Path) -> None:
    start = kzoo.build_model("bert_tiny", **SMALL)
    texts = np.array(["ab", "ba"] * 30, object), np.tile([0, 1], 30)
    tokenizer = train_tokenizer("character", ["ab"])
    kzoo.save(start, tmp_path / "m", preprocessing=Preprocessing(tokenizer=tokenizer))
    data = {"tokenizer": "character", "max_length": 8}
    shorter = plan(tmp_path / "m", texts, data=data).build()
    table = shorter.get_layer("positions").table
    expected = keras.ops.convert_to_numpy(start.get_layer("positions").table.value)[:8]
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(table.value), expected)
    with pytest.raises(ValueError, match="sequence_length is 10 at most"):
        plan(tmp_path / "m", texts, data=data | {"max_length": 12}).build()
