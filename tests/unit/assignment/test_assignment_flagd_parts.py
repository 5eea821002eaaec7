"""The parts of flagd's doors: selectors, and what a document leaves to the server."""

import json
from typing import Any

import pytest
from google.protobuf import json_format, struct_pb2
from touchstone.assignment.v1 import condition_pb2, experiment_pb2
from touchstone.assignment.v1 import ruleset_pb2 as pb
from touchstone_assignment.bucketing import HashVersion

from services.assignment.api.flagd.documents import Document, make_document
from services.assignment.api.flagd.logic import (
    MAX_FLAG_BYTES,
    MAX_UNIT,
    PLAIN,
    InexpressibleError,
    owns,
    variable,
)
from services.assignment.api.flagd.selectors import Selector, read_selector
from services.assignment.application.flag_set import flag_set
from shared.errors import DomainError

V2 = experiment_pb2.HASH_VERSION_FLAGD_V2
V3 = experiment_pb2.HASH_VERSION_FLAGD_V3


class TestSelector:
    """Which flag set a client means."""

    @pytest.mark.parametrize(
        ("text", "selector"),
        [
            ("", Selector()),
            ("flagSetId=demo", Selector("demo")),
            ("flagSetId=demo,dialect=flagd-v3", Selector("demo", HashVersion.FLAGD_V3)),
            (" dialect=flagd-v2 , flagSetId=demo ", Selector("demo", HashVersion.FLAGD_V2)),
        ],
    )
    def test_it_is_read(self, text, selector):
        assert read_selector(text) == selector

    @pytest.mark.parametrize(
        "text",
        ["demo", "flagSetId=", "source=x", "flagSetId=a,flagSetId=b", "dialect=flagd-v1", "=x"],
    )
    def test_another_form_is_refused_with_the_form_that_is_allowed(self, text):
        with pytest.raises(DomainError) as caught:
            read_selector(text)
        assert "flagd-selector" in caught.value.message
        assert "flagd-v2" in caught.value.message


def value(found: Any) -> struct_pb2.Value:
    made = struct_pb2.Value()
    json_format.ParseDict(found, made)
    return made


def compare(attribute: str, operator: str, *values: Any) -> condition_pb2.Condition:
    number = condition_pb2.Operator.Value(f"OPERATOR_{operator}")
    return condition_pb2.Condition(
        compare=condition_pb2.Comparison(
            attribute=attribute, operator=number, values=[value(found) for found in values]
        )
    )


def ruleset(**fields: Any) -> pb.Ruleset:
    """One experiment; what is in `fields` replaces fields of its rule."""
    given: dict[str, Any] = {
        "experiment": "button",
        "serving": pb.SERVING_RUNNING,
        "unit_type": "user",
        "layer": "button",
        "slots": [pb.Slots(first=0, end=10_000)],
        "salt": "split/button",
        "hash_version": V2,
        "variants": [
            pb.VariantRule(key=key, weight=5000, value=value(key)) for key in ("control", "green")
        ],
        "value_type": experiment_pb2.VALUE_TYPE_KEY,
        "control": "control",
    }
    layer = pb.LayerRule(layer="button", unit_type="user", salt="layer/b", hash_version=V2)
    return pb.Ruleset(
        format=1,
        project="demo",
        config_version=2,
        experiments=[pb.ExperimentRule(**(given | fields))],
        layers=[layer],
    )


def document(rules: pb.Ruleset, dialect: HashVersion = HashVersion.FLAGD_V2) -> Document:
    return make_document(rules, flag_set(rules), dialect)


def left_out(rules: pb.Ruleset, dialect: HashVersion = HashVersion.FLAGD_V2) -> str:
    made = document(rules, dialect)
    assert json.loads(made.text)["flags"] == {}
    return made.left_out["button"]


def test_the_twin_that_nothing_keeps_out_is_in():
    made = document(ruleset())
    flag = json.loads(made.text)["flags"]["button"]
    assert (made.left_out, flag["state"], flag["defaultVariant"]) == ({}, "ENABLED", "default")
    assert flag["variants"] == {"control": "control", "default": "control", "green": "green"}


@pytest.mark.parametrize(
    ("operator", "values"),
    [
        ("MATCHES", ["^a"]),
        ("VERSION_LESS", ["2.0.0"]),
        ("BEFORE", ["2026-01-01T00:00:00Z"]),
        ("IN_NETWORK", ["10.0.0.0/8"]),
    ],
)
def test_what_engines_do_not_agree_on_is_left_to_the_server(operator, values):
    assert operator in left_out(ruleset(targeting=compare("x", operator, *values)))


@pytest.mark.parametrize(
    "name", ["a.b", "toString", "constructor", "__proto__", "targetingKey", "flagSetId"]
)
def test_attributes_whose_names_mean_something_else_are_left_to_the_server(name):
    with pytest.raises(InexpressibleError):
        variable(name)
    assert name in left_out(ruleset(targeting=compare(name, "IS_SET")))


def test_lists_of_ids_and_audiences_that_are_not_there_are_left_to_the_server():
    asked = condition_pb2.Condition(audience="vip")
    assert "not there" in left_out(ruleset(targeting=asked))
    rules = ruleset(targeting=asked)
    rules.audiences.add(audience="vip", unit_type="user", digest="0" * 64, count=5)
    assert "list" in left_out(rules)


def test_what_is_marked_is_left_to_the_server_also_where_another_needs_it():
    assert "only the server" in left_out(ruleset(server_only=True))
    rules = ruleset(prerequisites=[pb.PrerequisiteRule(experiment="kept")])
    rules.experiments.add().CopyFrom(rules.experiments[0])
    rules.experiments[1].experiment = "kept"
    rules.experiments[1].server_only = True
    assert "'kept'" in left_out(rules)


def test_another_hash_anywhere_leaves_the_experiment_out():
    assert "experiment" in left_out(ruleset(hash_version=V3))
    assert "flagd-v3" in left_out(ruleset(), HashVersion.FLAGD_V3)
    rules = ruleset()
    rules.layers[0].hash_version = V3
    assert "layer" in left_out(rules)
    rules = ruleset()
    rules.holdouts.add(holdout="h", unit_type="user", salt="h", hash_version=V3, slots=100)
    assert "holdout" in left_out(rules)
    rules = ruleset()
    rules.layers[0].domain = "d"
    rules.domains.add(domain="d", layer="outer", slots=[pb.Slots(first=0, end=10)])
    rules.layers.add(layer="outer", unit_type="user", salt="o", hash_version=V3)
    assert "layer 'outer'" in left_out(rules)


def test_what_would_fill_the_clients_memory_is_left_to_the_server():
    texts = [f"{number:01000}" for number in range(MAX_FLAG_BYTES // 1000)]
    assert str(MAX_FLAG_BYTES) in left_out(ruleset(targeting=compare("x", "IN", *texts)))


def tower(width: int, depth: int) -> pb.Ruleset:
    """Levels of as many experiments as `width`, of which each needs all of the level below."""
    rules = ruleset()
    twin = rules.experiments[0]
    twin.layer = "top"
    rules.layers.add().CopyFrom(rules.layers[0])
    rules.layers[1].layer = "top"
    top = [twin]
    for level in range(depth):
        below = []
        for place in range(width):
            added = rules.experiments.add()
            added.CopyFrom(ruleset().experiments[0])
            added.experiment = f"e{level}-{place}"
            below.append(added)
        for above in top:
            above.prerequisites.extend(pb.PrerequisiteRule(experiment=b.experiment) for b in below)
        top = below
    return rules


def test_what_is_needed_again_and_again_is_made_once_and_bounded():
    made = document(tower(8, 8))
    inside = set(json.loads(made.text)["flags"])
    assert {f"e7-{place}" for place in range(8)} < inside
    assert {f"e6-{place}" for place in range(8)} < inside
    assert not any(key.startswith("e0") for key in inside)
    assert str(MAX_FLAG_BYTES) in made.left_out["button"]
    assert len(made.text) < len(made.pieces) * MAX_FLAG_BYTES


def test_what_is_needed_of_others_is_explained_wherever_it_is_needed():
    rules = tower(2, 2)
    rules.holdouts.add(
        holdout="h", unit_type="shop", salt="h", hash_version=V2, slots=100, experiments=["e1-0"]
    )
    made = document(rules)
    assert made.left_out == {}
    assert "plain-shop" in made.pieces["button"].refers
    assert made.pieces["e0-0"].refers == made.pieces["e0-1"].refers == made.pieces["button"].refers
    assert "plain-shop" in json.loads(made.text)["$evaluators"]


def test_every_rule_asks_for_the_unit_before_it_hashes():
    flag = json.loads(document(ruleset()).text)["flags"]["button"]
    text = json.dumps(flag["targeting"])
    assert text.count('"!!"') == 2
    assert text.count('"$ref": "plain-') == 2
    named, by_attribute, keyed, by_key, otherwise = flag["targeting"]["if"]
    assert '"user"' in json.dumps(named)
    assert '"targetingKey"' in json.dumps(keyed)
    assert otherwise == {"if": [True, None]}
    assert json.dumps(by_attribute).replace("user", "targetingKey") == json.dumps(by_key)


def test_shared_rules_survive_being_pasted_as_text():
    evaluators = json.loads(document(ruleset()).text)["$evaluators"]
    assert set(evaluators) == {"plain-user", "plain-targetingKey"}
    text = json.dumps(evaluators)
    # A backslash is an escape where Python pastes, `$` and a sign a place where JavaScript does.
    assert "\\" not in text
    assert text.replace("$a", "").count("$") == 0
    assert len(PLAIN) == len(set(PLAIN)) + 1  # `a` twice, behind `$`
    assert MAX_UNIT % 8 == 0


@pytest.mark.parametrize(
    ("edges", "parts"),
    [
        ([0, 500], [[True, 500], [False, 9500]]),
        ([500, 700], [[False, 500], [True, 200], [False, 9300]]),
        ([0, 1, 9999, 10_000], [[True, 1], [False, 9998], [True, 1]]),
    ],
)
def test_slots_are_ranges_in_order(edges, parts):
    assert owns("s", {"var": "x"}, edges)["fractional"][1:] == parts


def test_all_slots_and_none_need_no_hash():
    assert owns("s", {"var": "x"}, [0, 10_000]) is True
    assert owns("s", {"var": "x"}, []) is False


def test_equal_rules_make_equal_documents():
    assert document(ruleset()).text == document(ruleset()).text


def parametrised(**fields: Any) -> pb.Ruleset:
    """The one experiment sets the parameter `size` of its layer by both of its variants."""
    rules = ruleset(**fields)
    rules.layers[0].parameters.add(key="size", default_value=value(10))
    for place, variant in enumerate(rules.experiments[0].variants):
        variant.payload.update({"size": place})
    return rules


def test_a_parameter_has_a_variant_for_each_that_sets_it():
    flag = json.loads(document(parametrised()).text)["flags"]["param.size"]
    assert flag["variants"] == {"button/control": 0, "button/green": 1, "default": 10}
    assert flag["metadata"] == {"layer": "button", "parameter": "size"}


def test_a_parameter_that_only_the_server_can_resolve_is_left_out():
    def why(rules: pb.Ruleset) -> str:
        made = document(rules)
        assert "param.size" not in json.loads(made.text)["flags"]
        return made.left_out["param.size"]

    assert "only the server" in why(parametrised(server_only=True))
    forced = [pb.ForcedRule(unit_type="user", unit_id="u", variant="green")]
    rules = parametrised(forced=forced)
    assert "param.size" in json.loads(document(rules).text)["flags"]
    rules.experiments[0].variants[1].ClearField("payload")
    assert "does not set it" in why(rules)
    rules = parametrised(forced=forced)
    rules.experiments.add().CopyFrom(rules.experiments[0])
    rules.experiments[1].experiment = "second"
    assert "several experiments" in why(rules)
    rules = parametrised()
    other = rules.layers.add(layer="launch", unit_type="shop", hash_version=V2, launch=True)
    other.parameters.add(key="size", default_value=value(11))
    assert "several types" in why(rules)


def test_a_parameter_that_many_experiments_set_is_measured_while_it_is_made():
    rules = parametrised(targeting=compare("x", "IN", *(f"{n:01000}" for n in range(20))))
    for number in range(20):
        rules.experiments.add().CopyFrom(rules.experiments[0])
        rules.experiments[-1].experiment = f"twin{number}"
    assert f"more than {MAX_FLAG_BYTES}" in document(rules).left_out["param.size"]


def test_what_did_not_change_is_taken_over_and_makes_the_same_document():
    def three(version: int) -> pb.Ruleset:
        rules = parametrised()
        for name in ("second", "third"):
            rules.experiments.add().CopyFrom(rules.experiments[0])
            rules.experiments[-1].experiment = name
            rules.experiments[-1].layer = "own"
        rules.layers.add(layer="own", unit_type="user", salt="layer/own", hash_version=V2)
        rules.config_version = version
        return rules

    before, after = three(2), three(3)
    after.experiments[1].targeting.CopyFrom(compare("x", "MATCHES", "^a"))
    after.experiments[2].salt = "split/other"
    del after.layers[0].parameters[:]
    old = document(before)
    new = make_document(after, flag_set(after), HashVersion.FLAGD_V2, old)
    assert new.text == document(after).text
    assert new.pieces["button"].text is not old.pieces["button"].text  # its layer changed
    assert set(new.pieces) == {"button", "second", "third"}
    assert set(new.left_out) == {"second"}
    again = make_document(three(4), flag_set(three(4)), HashVersion.FLAGD_V2, old)
    assert all(again.pieces[key] is old.pieces[key] for key in old.pieces)
    assert json.loads(again.text)["metadata"]["version"] == "4"
