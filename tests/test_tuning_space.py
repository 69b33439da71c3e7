"""The space of a sweep, its grid, pruning, objectives: pure parts, without training."""

import dataclasses

import keras_tuner
import numpy as np
import pytest

from kzoo import registry, weights
from kzoo.hparams import checked, declarations
from kzoo.training import Recipe, Run, plan
from kzoo.tuning import oracles, pruning, records, space, tune
from kzoo.tuning.objectives import objectives_of, pareto_front


@pytest.fixture(scope="module")
def base():
    return plan("cnn", "digits")


def ranges(base, changes=None, settings=()):
    return {entry.name: entry for entry in space.search_space(base, settings, changes)}


# Declarations.


def every_declaration():
    for family in registry.FAMILIES:
        declared = type(family.smallest)
        for declaration in declarations(declared).values():
            yield declared, declaration
    for declaration in declarations(Recipe).values():
        yield Recipe, declaration


def test_every_declared_range_is_legal_and_can_be_built():
    for declared, declaration in every_declaration():
        told = f"{declared.__name__}.{declaration.name}"
        if not declaration.tune:
            assert declaration.when is None, told
            continue
        entry = space.declared_range(declaration)
        if space.element_of(declaration) is not declaration:
            entry = dataclasses.replace(entry, length=1)
        for value in map(entry.setting, entry.points(3)):
            assert checked(declaration, value) == value, told
            changes = {declaration.name: value}
            if declaration.when:
                changes[declaration.when[0]] = declaration.when[1][0]
            # Pseudo-labels are for where some labels are not known.
            smallest = Recipe(labels_per_class=5) if declared is Recipe else None
            for family in registry.FAMILIES:
                if type(family.smallest) is declared:
                    smallest = family.smallest
            dataclasses.replace(smallest, **changes)  # no cross-field rule is broken


def test_the_space_is_what_is_declared(base):
    found = ranges(base)
    assert set(found) == {
        "kernel_size",
        "num_convs",
        "normalization",
        "dense_units",
        "dropout_rate",
        "learning_rate",
        "weight_decay",
        "batch_size",
    }
    assert (found["learning_rate"].low, found["learning_rate"].high) == (1e-4, 1e-1)
    assert found["learning_rate"].log
    assert found["learning_rate"].default == 3e-3  # the recipe's own
    assert found["normalization"].values == ("batch", "layer")
    assert "num_convs" not in ranges(base, settings=["num_convs"])


def test_a_user_narrows_widens_and_adds(base):
    found = ranges(
        base,
        {
            "learning_rate": "1e-3..1e-2",
            "dropout_rate": "0..0.9:linear",
            "weight_decay": "0..0.1",
            "batch_size": [32, 64],
            "pooling": "max,average",
        },
    )
    assert found["learning_rate"].log  # as it is declared
    assert (found["dropout_rate"].low, found["dropout_rate"].high) == (0.0, 0.9)
    assert not found["weight_decay"].log  # 0 has no logarithm
    assert found["batch_size"].values == (32, 64)
    assert found["pooling"].values == ("max", "average")


def test_a_choice_opens_others(base):
    assert "momentum" not in ranges(base)
    found = ranges(base, {"optimizer": "adamw,sgd"})
    assert found["momentum"].when == ("optimizer", ("sgd",))
    assert list(found).index("optimizer") < list(found).index("momentum")
    assert not space.is_open(found["momentum"], {"optimizer": "adamw"})
    declared = space.declare(list(found.values()), keras_tuner.HyperParameters())
    declared.values = {"optimizer": "sgd"}
    assert declared.is_active("momentum")
    declared.values = {"optimizer": "adamw"}
    assert not declared.is_active("momentum")
    always = plan("cnn", "digits", settings={"optimizer": "sgd"})
    assert ranges(always, settings=["optimizer"])["momentum"].when is None
    with pytest.raises(ValueError, match="momentum has a meaning where optimizer is"):
        ranges(base, {"momentum": "0.5..0.9"})


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({"learning_rat": "1..2"}, (), "Did you mean 'learning_rate'"),
        ({"dropout_rate": "0..2"}, (), "dropout_rate=2 is not a float from 0 to 0.9"),
        ({"dropout_rate": "0.5..0.1"}, (), "must be less than"),
        ({"dropout_rate": "0..0.5:log"}, (), "begins above 0"),
        ({"dropout_rate": "0..0.5:cubic"}, (), "not one of log, linear"),
        ({"normalization": "1..2"}, (), "has no range; list values"),
        ({"normalization": "batch,btch"}, (), "is not one of 'batch', 'layer', 'none'"),
        ({"pooling": "max"}, (), "leaves nothing to move"),
        ({"filters": [[8, 8], [4, 4]]}, (), "moves single values"),
        ({"num_classes": "2,3"}, (), "num_classes is not for a sweep to move"),
        ({"epochs": "2..3"}, (), "epochs is not for a sweep to move"),
        ({"pooling": "max,average"}, ("pooling",), "pooling is set"),
    ],
)
def test_a_wrong_range_is_one_clear_error(base, changes, settings, message):
    with pytest.raises(ValueError, match=message):
        ranges(base, changes, settings)


def test_from_weights_the_network_stays(tmp_path):
    """Its shape is that of the weights; what trains them moves."""
    model = registry.build_model("cnn_tiny", channels=1, image_size=8)
    weights.save(model, tmp_path)
    for start in (model, tmp_path):
        tuned = plan(start, "digits")
        moving = {"dropout_rate", "learning_rate", "weight_decay", "batch_size"}
        assert set(ranges(tuned)) == moving
        assert set(ranges(tuned, {"layer_decay": "0.3..1"})) == moving | {"layer_decay"}
        with pytest.raises(
            ValueError, match="num_convs is the network's whose weights"
        ):
            ranges(tuned, {"num_convs": "1..2"})


def test_0_and_1_are_numbers():
    def drawn(*values):
        entry = space.Range("x", "choice", values=values, default=values[0])
        (declared,) = space.declare([entry], keras_tuner.HyperParameters()).space
        return {type(declared.random_sample(seed)) for seed in range(20)}

    assert drawn(0, 1) == {int}
    assert drawn(False, True) == {bool}


def test_a_space_with_nothing_to_move(base):
    with pytest.raises(ValueError, match="nothing to move"):
        ranges(base, settings=list(ranges(base)))


def test_keras_tuner_draws_from_the_declared_space(base):
    entries = ranges(base)
    declared = space.declare(list(entries.values()), keras_tuner.HyperParameters())
    for hp in declared.space:
        entry = entries[hp.name]
        drawn = [hp.random_sample(seed) for seed in range(200)]
        if entry.kind == "choice":
            assert set(drawn) == set(entry.values)
            continue
        assert entry.low <= min(drawn) < max(drawn) <= entry.high
        middle = entry.at(0.5)
        share = np.mean([value < middle for value in drawn])
        assert 0.3 < share < 0.7, hp.name  # even on the declared scale
        assert all(
            type(value) is (int if entry.kind == "int" else float) for value in drawn
        )


# The grid.


def test_the_grid_has_both_ends_and_fits_the_trials():
    entries = [
        space.Range("a", "float", 1e-4, 1e-2, log=True),
        space.Range("b", "choice", values=("x", "y")),
        space.Range("c", "int", 1, 2, when=("b", ("y",))),
    ]
    found = oracles.grid(entries, 9)
    assert found[0] == {"a": 1e-4, "b": "x"}
    assert len(found) == 9  # three of a; x alone, y with 1 and 2
    assert sorted({values["a"] for values in found}) == pytest.approx(
        [1e-4, 1e-3, 1e-2]
    )
    assert len({tuple(values.items()) for values in found}) == 9
    assert len(oracles.grid(entries, 11)) == 9
    with pytest.raises(ValueError, match="6 points with two of each number, and there"):
        oracles.grid(entries, 5)


# Pruning, on curves with a known answer.


def test_median_against_numpy():
    rng = np.random.default_rng(0)
    curves = [pruning.best_so_far(rng.random(10)) for _ in range(9)]
    for epoch in range(2, 10):
        mine = pruning.best_so_far(rng.random(epoch))
        below = mine[-1] < np.median([curve[epoch - 1] for curve in curves])
        assert pruning.median(mine, curves, 10) == below
    assert not pruning.median([0.0, 0.0], curves[:4], 10)  # too few to compare with
    assert not pruning.median([0.0], curves, 10)  # too early
    assert not pruning.median([0.0] * 10, curves, 10)  # it is over anyhow


def test_halving_lets_a_third_go_on():
    others = [[value / 10] * 3 for value in range(8)]  # with mine, nine
    assert pruning.rungs(9) == [3, 6]
    outcome = [pruning.halving([x / 10] * 3, others, 9) for x in (4.5, 5.5, 7.5)]
    assert outcome == [True, False, False]
    assert not pruning.halving([0.0, 0.0], others, 9)  # no rung


# A tuple of numbers moves as one.


def test_the_widths_of_an_mlp_move_together():
    usual = plan("mlp", "digits", recipe=Recipe())
    units = ranges(usual)["units"]
    assert (units.kind, units.low, units.high, units.log) == ("int", 16, 512, True)
    assert (units.default, units.length) == (128, 2)  # the first trial is as it was
    assert units.to_json()["length"] == 2
    assert units.setting(32) == (32, 32)
    narrow = plan("mlp", "digits", recipe=Recipe(), settings={"units": (64, 64, 64)})
    asked = ranges(narrow, changes={"units": "8..32"})["units"]
    assert (asked.low, asked.high, asked.length, asked.default) == (8, 32, 3, 32)
    listed = ranges(usual, changes={"units": "24,48"})["units"]
    assert (listed.values, listed.setting(48)) == ((24, 48), (48, 48))


def test_widths_that_are_not_alike_stay_unless_they_are_asked_for():
    funnel = plan("mlp", "digits", recipe=Recipe(), settings={"units": (128, 32)})
    assert "units" not in ranges(funnel)
    assert ranges(funnel, changes={"units": "8..32"})["units"].length == 2
    none = plan("mlp", "digits", recipe=Recipe(), settings={"units": ()})
    assert "units" not in ranges(none)
    with pytest.raises(ValueError, match="units is empty: there is nothing to move"):
        ranges(none, changes={"units": "8..32"})
    with pytest.raises(ValueError, match=r"units=0 is not an int of at least 1"):
        ranges(funnel, changes={"units": "0..32"})
    with pytest.raises(ValueError, match=r"units=\(8, 16\) is not an int"):
        ranges(funnel, changes={"units": [(8, 16), (8, 8)]})


# Objectives.


def test_objectives_and_their_directions():
    digits = plan("cnn", "digits")
    objectives = objectives_of(digits, "accuracy,loss,weights,macro_f1")
    assert [(one.name, one.direction) for one in objectives] == [
        ("accuracy", "max"),
        ("loss", "min"),
        ("weights", "min"),
        ("macro_f1", "max"),
    ]
    assert objectives_of(plan("mlp", "diabetes"), None)[0].name == "r2"
    mae = plan("mlp", "diabetes", settings={"monitor": "mae"})
    assert objectives_of(mae, None)[0].direction == "min"
    with pytest.raises(ValueError, match=r"no objective 'r2'\. There are: accuracy,"):
        objectives_of(digits, "r2")
    with pytest.raises(ValueError, match="Did you mean 'accuracy'"):
        objectives_of(digits, "val_accuracy")


def test_the_front_against_the_definition():
    rng = np.random.default_rng(0)
    points = rng.integers(0, 6, (40, 3))
    front = set(pareto_front(points, ("max", "min", "max")))
    signs = np.array([1, -1, 1])
    for i, mine in enumerate(points * signs):
        beaten = any(
            all(other >= mine) and any(other > mine) for other in points * signs
        )
        assert (i in front) == (not beaten)


def test_seeds_are_spread_and_their_own():
    seeds = {
        records.seed_of(seed, trial, execution)
        for seed in range(3)
        for trial in range(20)
        for execution in range(3)
    }
    assert len(seeds) == 180
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_a_sweep_over_widths_trains_them(tmp_path):
    done = tune(
        "mlp",
        "digits",
        out=tmp_path / "sweep",
        trials=2,
        tuner="random",
        space={"units": "4..12"},
        recipe=Recipe(epochs=1, batch_size=512),
        **dict.fromkeys(("learning_rate", "weight_decay", "dropout_rate"), 0.01),
        activation="relu",
        batch_size=512,
    )
    for row in done.trials:
        assert row["status"] == "completed"
        run = Run(done.folder / "trials" / f"{row['trial']:04d}")
        assert run.config["model"]["hparams"]["units"] == 2 * [row["units"]]
        assert 4 <= row["units"] <= 12
    assert weights.read_json(done.folder / "sweep.json")["space"]["units"] == {
        "kind": "int",
        "low": 4,
        "high": 12,
        "log": True,
        "length": 2,
    }
