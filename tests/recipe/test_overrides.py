"""Overrides: every form of value, every mistake."""

from __future__ import annotations

from typing import Any

import pytest

from omnisource.errors import UserError
from omnisource.recipe.data import Split, TarShards
from omnisource.recipe.keys import describe_keys, leaves
from omnisource.recipe.loading import load_config
from omnisource.recipe.overrides import apply_overrides
from omnisource.recipe.recipe import Recipe
from tests.support.miniature import OWN_DATA_CONFIG, PUBLISHED_CONFIG, own_data_overrides, tiny_overrides


@pytest.fixture(scope="module")
def published() -> Recipe:
    return load_config(str(PUBLISHED_CONFIG), Recipe)


def refused(recipe: Recipe, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        apply_overrides(recipe, overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("num_epochs=3", 3),
        ("seed=99999999999999999999", 99999999999999999999),
        ("optimizer.learning_rate=1e-3", 0.001),
        ("optimizer.learning_rate=1", 1.0),
        ("deterministic=True", True),
        ("deterministic=true", True),
        ("deterministic=1", True),
        ("optimizer.decay_norm_and_bias=False", False),
        ("optimizer.decay_norm_and_bias=no", False),
        ("optimizer.max_gradient_norm=None", None),
        ("optimizer.max_gradient_norm=null", None),
        ("optimizer.max_gradient_norm=2.5", 2.5),
        ("optimizer.method=adamw", "adamw"),
        ("model.depth=101", 101),
        ("precision=bfloat16", "bfloat16"),
        ("optimizer.betas=0.8,0.99", (0.8, 0.99)),
        ("optimizer.betas=(0.8, 0.99)", (0.8, 0.99)),
        ("optimizer.betas=[0.8,0.99]", (0.8, 0.99)),
        ("sources.kinetics400.root=/data/with = sign", "/data/with = sign"),
        ("sources.kinetics400.classes=", ""),
        ("sources.kinetics400.train.list=None", "None"),
        ("sources.kinetics400.test_views.num_crops=1", 1),
        ("label_spaces.imagenet.num_classes=None", None),
        ("label_spaces.imagenet.num_classes=10", 10),
    ],
)
def test_override_sets_the_value_of_its_type(published: Recipe, override: str, value: Any) -> None:
    changed = apply_overrides(published, [override])
    key = override.partition("=")[0]
    found = dict(leaves(changed))[key]
    assert found == value and type(found) is type(value)
    others = {name: at for name, at in leaves(changed) if name != key}
    assert others == {name: at for name, at in leaves(published) if name != key}


@pytest.mark.parametrize("path", [PUBLISHED_CONFIG, OWN_DATA_CONFIG], ids=["published", "own_data"])
def test_every_described_key_can_be_given_back_as_an_override(path: Any) -> None:
    recipe = load_config(str(path), Recipe)
    for key, value, _ in describe_keys(recipe):
        assert apply_overrides(recipe, [f"{key}={value}"]) == recipe, key


def test_the_last_of_two_overrides_of_one_key_wins(published: Recipe) -> None:
    assert apply_overrides(published, ["seed=1", "seed=2"]).seed == 2


def test_no_override_changes_nothing(published: Recipe) -> None:
    assert apply_overrides(published, []) == published


def test_config_itself_is_left_as_it_was(published: Recipe) -> None:
    before = list(leaves(published))
    apply_overrides(published, tiny_overrides())
    assert list(leaves(published)) == before


@pytest.mark.parametrize("is_reversed", [False, True])
def test_keys_that_only_fit_together_can_be_changed_in_any_order(published: Recipe, is_reversed: bool) -> None:
    overrides = [
        "sources.imagenet.ends_with=",
        "sources.imagenet.batch_size=4",
        "sources.imagenet.test_views.crop_size=320",
        "sources.imagenet.test_views.short_side=340",
    ]
    imagenet = apply_overrides(published, overrides[::-1] if is_reversed else overrides).sources["imagenet"]
    assert (imagenet.ends_with, imagenet.batch_size) == ("", 4)
    assert (imagenet.test_views.crop_size, imagenet.test_views.short_side) == (320, 340)


def test_a_group_that_is_unset_is_set_by_its_keys_and_unset_by_none(published: Recipe) -> None:
    assert published.sources["imagenet"].validation is None
    overrides = ["sources.imagenet.validation.folder=val", "sources.imagenet.validation.list=meta/val.txt"]
    changed = apply_overrides(published, overrides)
    assert changed.sources["imagenet"].validation == Split(folder="val", list="meta/val.txt")
    assert apply_overrides(changed, ["sources.imagenet.validation=None"]) == published


def test_a_group_that_is_set_by_halves_is_refused(published: Recipe) -> None:
    message = refused(published, "sources.imagenet.validation.folder=val")
    assert "sources.imagenet.validation.list: is empty, and format=path_label needs a list" in message


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("num_epoch", "num_epochs"),
        ("optimizer.learning_rat", "optimizer.learning_rate"),
        ("optimiser.learning_rate", "optimizer.learning_rate"),
        ("sources.kinetics.root", "sources.kinetics400.root"),
        ("sources.kinetics400.train.lists", "sources.kinetics400.train.list"),
        ("sources.imagenet.validation.lst", "sources.imagenet.validation.list"),
    ],
)
def test_unknown_key_names_the_one_that_was_meant(published: Recipe, key: str, meant: str) -> None:
    assert f"unknown key {key}. Did you mean {meant}?" in refused(published, f"{key}=1")


def test_unknown_key_lists_what_is_allowed_there(published: Recipe) -> None:
    message = refused(published, "sources.xyz.root=1")
    assert message == "unknown key sources.xyz.root. Allowed after sources: kinetics400, imagenet."
    assert "Allowed are: label_spaces, sources, main_source" in refused(published, "zzz=1")


def test_unknown_key_names_the_groups_that_have_it(published: Recipe) -> None:
    message = refused(published, "batch_size=4")
    assert message.endswith("There is sources.kinetics400.batch_size, sources.imagenet.batch_size.")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num_epochs=ten", "num_epochs=ten: wants a whole number"),
        ("num_epochs=1e3", "num_epochs=1e3: wants a whole number"),
        ("num_epochs=", "num_epochs=: wants a whole number"),
        ("num_epochs=None", "num_epochs=None: wants a whole number"),
        ("optimizer.learning_rate=fast", "optimizer.learning_rate=fast: wants a number"),
        ("optimizer.learning_rate=nan", "optimizer.learning_rate=nan: wants a finite number"),
        ("optimizer.learning_rate=1e999", "optimizer.learning_rate=1e999: wants a finite number"),
        ("optimizer.max_gradient_norm=big", "optimizer.max_gradient_norm=big: wants a number"),
        ("deterministic=maybe", "deterministic=maybe: wants True or False"),
        ("model.depth=51", "model.depth=51: allowed are 18, 34, 50, 101, 152"),
        ("optimizer.method=lamb", "optimizer.method=lamb: allowed are sgd, adamw"),
        ("optimizer.betas=0.9", "optimizer.betas=0.9: wants 2 values separated by commas, got 1"),
        ("optimizer.betas=0.9,x", "optimizer.betas=x: wants a number"),
        ("optimizer=sgd", "optimizer is a group, not a value; set one of its keys: optimizer.method, "),
        ("sources.kinetics400=x", "sources.kinetics400 is a group, not a value; set one of its keys: "),
        ("sources=x", "sources is a group, not a value"),
        (
            "sources.imagenet.validation=x",
            "sources.imagenet.validation is a group, not a value; set one of its keys: sources.imagenet.",
        ),
        ("num_epochs.value=1", "num_epochs.value: num_epochs is a value, not a group; write num_epochs=..."),
        ("optimizer.betas.0=1", "optimizer.betas.0: optimizer.betas is a value, not a group"),
        ("optimizer.max_gradient_norm.x=1", "optimizer.max_gradient_norm.x: optimizer.max_gradient_norm is a value"),
        ("num_epochs", "'num_epochs': an override is written key=value"),
        ("=3", "'=3': an override is written key=value"),
        (".=3", "unknown key .."),
        ("sources..root=3", "unknown key sources..root."),
        ("", "'': an override is written key=value"),
    ],
)
def test_override_that_does_not_fit_is_refused(published: Recipe, override: str, message: str) -> None:
    assert refused(published, override).startswith(message)


def test_several_faults_are_listed_at_once(published: Recipe) -> None:
    message = refused(published, "num_epochs=x", "seed=3", "model.deepth=18", "noequals", "deterministic=2")
    assert [line.split(":")[0].split(".")[0] for line in message.splitlines()] == [
        "num_epochs=x",
        "unknown key model",
        "'noequals'",
        "deterministic=2",
    ]


def test_values_that_do_not_fit_together_are_a_user_error(published: Recipe) -> None:
    message = refused(published, "seed=-1", "sources.kinetics400.test_views.crop_size=300")
    assert message.startswith("the overrides make a config that is wrong: ")
    assert "seed=-1: must be at least 0" in message
    assert "sources.kinetics400.test_views: crop_size=300 must be in 1..short_side=256" in message


def test_tiny_overrides_fit_both_configs(published: Recipe) -> None:
    assert apply_overrides(published, tiny_overrides()).model.depth == 18
    own = apply_overrides(load_config(str(OWN_DATA_CONFIG), Recipe), own_data_overrides(num_workers=1))
    assert (own.num_workers, own.sources["images"].ends_with) == (1, "videos")


FIELD = "sources.kinetics400.train.label_field=label"
SHARDS = "sources.kinetics400.train.urls=train-{000000..000009}.tar"


def test_key_of_another_kind_of_group_puts_that_kind_into_the_place(published: Recipe) -> None:
    changed = apply_overrides(published, [SHARDS, "sources.kinetics400.train.label_suffix=json", FIELD])
    shards = TarShards(("train-{000000..000009}.tar",), label_suffix="json", label_field="label")
    assert changed.sources["kinetics400"].train == shards
    back = apply_overrides(changed, ["sources.kinetics400.train.list=list.txt"])
    assert back.sources["kinetics400"].train == Split(list="list.txt")
    tested = apply_overrides(published, [SHARDS.replace("train.urls", "test.urls")])
    assert tested.sources["kinetics400"].test == TarShards(shards.urls)


@pytest.mark.parametrize("other", ["sources.kinetics400.train.list=list.txt", "sources.kinetics400.train.folder=x"])
def test_keys_of_two_kinds_of_group_in_one_place_are_refused(published: Recipe, other: str) -> None:
    for overrides in ([SHARDS, other], [other, SHARDS]):
        lost = overrides[0].partition("=")[0]
        assert refused(published, *overrides).startswith(f"{lost}: does not go together with a later one of ")


def test_key_of_no_kind_of_group_is_unknown(published: Recipe) -> None:
    assert "Did you mean sources.kinetics400.train.list?" in refused(published, "sources.kinetics400.train.lists=x")


def test_group_that_a_later_override_takes_out_is_no_mistake(published: Recipe) -> None:
    overrides = ["sources.kinetics400.test.list=x", "sources.kinetics400.test=none"]
    assert "is a group, not a value" in refused(published, "sources.kinetics400.train=x")
    assert apply_overrides(published, overrides).sources["kinetics400"].test is None
