"""Documents for in-process clients, evaluated by the engines that those clients have."""

import json
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format, struct_pb2
from touchstone.assignment.v1 import condition_pb2, experiment_pb2
from touchstone.assignment.v1 import ruleset_pb2 as pb
from touchstone_assignment.bucketing import HashVersion
from touchstone_assignment.compile import compile_ruleset

from services.assignment.api.flagd.documents import Document, make_document
from services.assignment.api.flagd.logic import MAX_UNIT, PLAIN
from services.assignment.application.flag_context import subject_of
from services.assignment.application.flag_set import FlagSet, flag_set
from tests.openfeature.environments import node_environment, python_environment

HERE = Path(__file__).parent
PYTHON_V2, PYTHON_V3, NODE = "Python 1.0", "Python 2.0", "Node 4.0"
DIALECT = {
    PYTHON_V2: HashVersion.FLAGD_V2,
    PYTHON_V3: HashVersion.FLAGD_V3,
    NODE: HashVersion.FLAGD_V2,
}
HASH = {
    HashVersion.FLAGD_V2: experiment_pb2.HASH_VERSION_FLAGD_V2,
    HashVersion.FLAGD_V3: experiment_pb2.HASH_VERSION_FLAGD_V3,
}
Context = dict[str, Any]


def value(found: Any) -> struct_pb2.Value:
    made = struct_pb2.Value()
    json_format.ParseDict(found, made)
    return made


def slots(*runs: tuple[int, int]) -> list[pb.Slots]:
    return [pb.Slots(first=first, end=end) for first, end in runs]


def variants(*arms: tuple[str, int, bool]) -> list[pb.VariantRule]:
    return [
        pb.VariantRule(key=key, weight=weight, value=value(key), dropped=dropped)
        for key, weight, dropped in arms
    ]


HALVES = variants(("control", 5000, False), ("green", 5000, False))
THIRDS = variants(("control", 3333, False), ("b", 3333, True), ("c", 3334, False))


def compare(attribute: str, operator: str, *values: Any) -> condition_pb2.Condition:
    number = condition_pb2.Operator.Value(f"OPERATOR_{operator}")
    return condition_pb2.Condition(
        compare=condition_pb2.Comparison(
            attribute=attribute, operator=number, values=[value(found) for found in values]
        )
    )


def every(*conditions: condition_pb2.Condition) -> condition_pb2.Condition:
    return condition_pb2.Condition(all=condition_pb2.ConditionList(conditions=conditions))


def some(*conditions: condition_pb2.Condition) -> condition_pb2.Condition:
    return condition_pb2.Condition(any=condition_pb2.ConditionList(conditions=conditions))


def targeting() -> dict[str, condition_pb2.Condition]:
    """A condition for each form that a document can say."""
    return {
        "countries": compare("country", "IN", "US", "GB"),
        "mixed": compare("one", "IN", "1", 1, True),
        "true": compare("vip", "EQUAL", True),
        "false": compare("vip", "EQUAL", False),
        "number-one": compare("one", "EQUAL", 1),
        "number": compare("age", "EQUAL", 17.5),
        "less": compare("age", "LESS", 18),
        "at-least": compare("age", "GREATER_OR_EQUAL", 18),
        "adult": condition_pb2.Condition(negated=compare("age", "LESS_OR_EQUAL", 17)),
        "text": every(compare("mail", "IS_SET"), compare("mail", "CONTAINS", "root", "bank")),
        "starts": compare("mail", "STARTS_WITH", "root", "a@"),
        "ends": condition_pb2.Condition(negated=compare("mail", "ENDS_WITH", ".example")),
        "audience": some(
            condition_pb2.Condition(audience="rich"), compare("mail", "EQUAL", "zoë@x")
        ),
    }


def rule(name: str, version: int, **fields: Any) -> pb.ExperimentRule:
    given: dict[str, Any] = {
        "experiment": name,
        "config_version": 3,
        "serving": pb.SERVING_RUNNING,
        "unit_type": "user",
        "layer": f"of-{name}",
        "slots": slots((0, 10_000)),
        "salt": f"split/{name}",
        "hash_version": version,
        "variants": HALVES,
        "value_type": experiment_pb2.VALUE_TYPE_KEY,
        "control": "control",
    }
    return pb.ExperimentRule(**(given | fields))


def forced(unit_type: str, unit_id: str, variant: str) -> pb.ForcedRule:
    return pb.ForcedRule(unit_type=unit_type, unit_id=unit_id, variant=variant)


def experiments(version: int) -> list[pb.ExperimentRule]:
    needed = [pb.PrerequisiteRule(experiment="scattered", variants=["c"])]
    some_forced = [
        forced("user", "u-5", "green"),
        forced("user", "u-6", ""),
        forced("user", "zoë", "green"),
        forced("device", "d-1", "control"),
    ]
    hourly = experiment_pb2.Switchback(window_s=2_678_400, region_attribute="region")
    return [
        rule("whole", version),
        rule("scattered", version, slots=slots((2000, 3000), (4000, 9500)), variants=THIRDS),
        rule("inside", version, layer="inner", slots=slots((0, 7000))),
        rule("released", version, layer="of-a-released-domain"),
        rule("held", version),
        rule("held-device", version),
        rule("needing", version, prerequisites=needed),
        rule("needing-any", version, prerequisites=[pb.PrerequisiteRule(experiment="needing")]),
        rule("needing-none", version, prerequisites=[pb.PrerequisiteRule(experiment="gone")]),
        rule("forced", version, forced=some_forced),
        rule("paused", version, serving=pb.SERVING_NOT_RUNNING, forced=some_forced),
        rule("killed", version, serving=pb.SERVING_KILLED, forced=some_forced),
        rule("switched", version, switchback=hourly, slots=slots((0, 9000))),
        rule(
            "washed",
            version,
            switchback=experiment_pb2.Switchback(window_s=2_678_400, washout_s=2_678_400),
        ),
        *(rule(name, version, targeting=condition) for name, condition in targeting().items()),
    ]


def ruleset(version: experiment_pb2.HashVersion.ValueType) -> pb.Ruleset:
    rules = experiments(version)
    own = [name for name in dict.fromkeys(found.layer for found in rules) if "of-" in name]

    def layer(name: str, domain: str = "") -> pb.LayerRule:
        return pb.LayerRule(
            layer=name, unit_type="user", salt=f"layer/{name}", hash_version=version, domain=domain
        )

    def holdout(name: str, unit_type: str, width: int, *covered: str) -> pb.HoldoutRule:
        return pb.HoldoutRule(
            holdout=name,
            unit_type=unit_type,
            salt=f"holdout/{name}",
            hash_version=version,
            slots=width,
            experiments=covered,
        )

    def sized(name: str, sizes: dict[str, Any], **fields: Any) -> pb.ExperimentRule:
        made = rule(name, version, variants=THIRDS, **fields)
        for variant in made.variants:
            if variant.key in sizes:
                variant.payload.update({"size": sizes[variant.key]})
        return made

    def setting(name: str, *, launch: bool, default: int) -> pb.LayerRule:
        made = layer(name)
        made.launch = launch
        made.parameters.add(key="size", default_value=value(default))
        return made

    rules += [
        sized("big", {"control": 11, "c": 12.5}, layer="sizes", slots=slots((0, 3000))),
        sized(
            "small",
            {"control": 1, "c": 2},
            layer="sizes",
            slots=slots((3000, 6000)),
            forced=[forced("user", "u-5", "control"), forced("device", "d-1", "c")],
        ),
        sized("gone-by", {"control": 99}, layer="sizes", serving=pb.SERVING_NOT_RUNNING),
        sized("rolled-out", {"control": 50, "c": 60}, layer="launch", slots=slots((0, 5000))),
    ]
    rules[-2].ClearField("slots")
    return pb.Ruleset(
        format=1,
        project="demo",
        config_version=7,
        experiments=rules,
        layers=[
            setting("sizes", launch=False, default=10),
            setting("launch", launch=True, default=9),
            *(layer(name) for name in own if name != "of-a-released-domain"),
            layer("of-a-released-domain", "gone"),
            layer("outer"),
            layer("middle", "wide"),
            layer("inner", "narrow"),
        ],
        domains=[
            pb.DomainRule(domain="wide", layer="outer", slots=slots((0, 2000), (4000, 9000))),
            pb.DomainRule(domain="narrow", layer="middle", slots=slots((1000, 8000))),
        ],
        holdouts=[
            holdout("tenth", "user", 1000, "held", "held-device"),
            holdout("devices", "device", 5000, "held-device"),
            holdout("ended", "user", 0, "held"),
        ],
        audiences=[pb.AudienceRule(audience="rich", condition=compare("spend", "GREATER", 100.25))],
    )


ODD_IDS = ["zoë", "50%", "", "x" * 64, "x" * 65, "a\\b", 'a"b', "日本", "é" * 3, PLAIN[:64]]
ATTRIBUTES: dict[str, list[Any]] = {
    "user": ["somebody", "u-5", "", 12, True, None, ["a"], "ü"],
    "device": ["d-1", "d-2", "d-3", "dé", 5],
    "country": ["US", "DE", 1, None, ["US"], "us"],
    "age": [17, 18, "18", "x", True, 17.5, -1, 0, None],
    "vip": [True, False, 1, 0, "true", "True", None],
    "spend": [100, 100.5, "200", True],
    "one": [1, True, "1", 1.0, 2, "true"],
    "mail": ["a@bank.example", "root@x", 5, ["root"], "", "zoë@x", None],
    "region": ["eu", "", 5, "us-1", "é", "a%b"],
}


def contexts(count: int) -> list[Context]:
    random = np.random.default_rng(7)
    found = []
    for number in range(count):
        context: Context = {}
        kind = random.random()
        if kind < 0.8:
            context["targetingKey"] = f"u-{number}"
        elif kind < 0.95:
            context["targetingKey"] = ODD_IDS[random.integers(len(ODD_IDS))]
        for name, values in ATTRIBUTES.items():
            if random.random() < (0.2 if name == "user" else 0.6):
                context[name] = values[random.integers(len(values))]
        found.append(context)
    return found


def command(engine: str) -> list[str | Path]:
    if engine == NODE:
        if not (shutil.which("node") and shutil.which("npm")):
            pytest.skip("node and npm are not installed: apt-get install nodejs npm")
        return ["node", HERE / "flagd_engine.mjs", node_environment()]
    return [python_environment(DIALECT[engine].value), HERE / "flagd_engine.py"]


def evaluated(engine: str, text: str, asked: Sequence[Any]) -> list[list[Any]]:
    done = subprocess.run(
        command(engine),
        input=json.dumps({"document": text, "asked": asked}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[list[Any]] = json.loads(done.stdout)
    return found


def decided(rules: pb.Ruleset, flags: FlagSet, asked: Sequence[tuple[str, Context]]) -> list[str]:
    """What the server gives, at a moment that is no edge of a window."""
    evaluator = compile_ruleset(rules, _no_lists)
    found = []
    for key, context in asked:
        flag = flags.flags[key]
        subject = subject_of(context, flag.unit_type, flags.unit_types, _now_s())
        if flag.parameter:
            set_by = evaluator.parameters(subject, [flag.parameter])[flag.parameter]
            name = f"{set_by.experiment}/{set_by.variant}" if set_by.experiment else "default"
            found.append(name)
        else:
            found.append(evaluator.decide(key, subject).variant or "default")
    return found


def _no_lists(digest: str) -> Any:
    raise LookupError(digest)


def _now_s() -> float:
    return time.time()


def plain(context: Context) -> bool:
    """Whether every text that may be hashed is hashed as it stands."""
    texts = [context.get(name) for name in ("targetingKey", "user", "device", "region")]
    return all(
        len(text) <= MAX_UNIT and set(text) <= set(PLAIN) for text in texts if isinstance(text, str)
    )


@pytest.fixture(params=list(DIALECT))
def engine(request) -> str:
    found: str = request.param
    return found


@pytest.fixture
def dialect(engine) -> HashVersion:
    return DIALECT[engine]


@pytest.fixture
def made(dialect) -> tuple[pb.Ruleset, FlagSet, Document]:
    rules = ruleset(HASH[dialect])
    flags = flag_set(rules)
    return rules, flags, make_document(rules, flags, dialect)


def test_every_rule_is_decided_by_the_engine_as_by_the_server(engine, made):
    rules, flags, document = made
    assert document.left_out == {}
    asked = [(key, context) for context in contexts(400) for key in flags.flags]
    ours = decided(rules, flags, asked)
    theirs = evaluated(engine, document.text, asked)
    seen: dict[str, Counter[str]] = {}
    for (key, context), own, (variant, reason, _) in zip(asked, ours, theirs, strict=True):
        seen.setdefault(key, Counter())[own] += 1
        assert "STATIC" not in reason
        if plain(context):
            assert variant == own, (key, context, reason)
        else:
            # Never another variant: what cannot be hashed gets the default.
            assert variant in (own, "default"), (key, context, reason)
    alone = {key for key, counts in seen.items() if set(counts) == {"default"}}
    assert alone == {"released", "needing-none", "killed", "washed", "gone-by"}
    assert set(seen["param.size"]) == {
        "default",
        *(f"{name}/{arm}" for name in ("big", "small", "rolled-out") for arm in ("control", "c")),
    }
    assert seen["whole"].total() == 400


def test_the_proportions_of_a_guarded_unit_are_all_default(engine, made):
    _, _, document = made
    asked = [("whole", {"targetingKey": f"zoë-{number}"}) for number in range(50)]
    found = evaluated(engine, document.text, asked)
    assert {variant for variant, _, _ in found} == {"default"}
    assert all("DEFAULT" in reason for _, reason, _ in found)


def test_answers_carry_what_they_are_of(engine, made):
    _, _, document = made
    ((_, _, metadata),) = evaluated(engine, document.text, [("whole", {"targetingKey": "u"})])
    assert metadata == {
        "flagSetId": "demo",
        "version": "7",
        "experiment": "whole",
        "layer": "of-whole",
        "hashVersion": DIALECT[engine].value,
        "configVersion": 3,
    }


def test_another_salt_decides_otherwise(engine, made):
    rules, flags, document = made
    asked = [("whole", {"targetingKey": f"u-{number}"}) for number in range(200)]
    other = document.text.replace("split/whole", "split/other")
    theirs = [variant for variant, _, _ in evaluated(engine, other, asked)]
    differing = sum(a != b for a, b in zip(theirs, decided(rules, flags, asked), strict=True))
    assert 60 < differing < 140


def test_the_engine_of_the_other_dialect_would_disagree(engine, dialect):
    other = next(version for version in HashVersion if version is not dialect)
    rules = ruleset(HASH[other])
    flags = flag_set(rules)
    asked = [("whole", {"targetingKey": f"u-{number}"}) for number in range(200)]
    theirs = evaluated(engine, make_document(rules, flags, other).text, asked)
    ours = decided(rules, flags, asked)
    assert sum(found[0] != own for found, own in zip(theirs, ours, strict=True)) > 60
    # So it gets none of those experiments but what needs no hash.
    kept = set(json.loads(make_document(rules, flags, dialect).text)["flags"])
    assert kept == {"killed", "paused", "gone-by"}
