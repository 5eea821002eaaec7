"""Every model of the contract comes back as it was asked for, its defaults filled in."""

import pytest
from google.protobuf.duration_pb2 import Duration
from touchstone.attribution.v1 import attribution_pb2 as pb

from services.attribution.domain.models import FullPath, Milestone, w_shaped
from services.attribution.wire.models import decode_model, encode_model
from shared.errors import DomainError

KINDS = [field.name for field in pb.Model.DESCRIPTOR.oneofs_by_name["kind"].fields]
NEEDS = {
    "custom": pb.Model(custom=pb.Custom(first=1, middle=2, last=3)),
    "by_position": pb.Model(by_position=pb.ByPosition(weights=[3, 1])),
}
ASKED = [
    pb.Model(
        linear=pb.Linear(over=pb.LINEAR_OVER_RUNS),
    ),
    pb.Model(
        position_based=pb.PositionBased(
            first=0.2,
            last=0.6,
            two_touch_rule=pb.TWO_TOUCH_RULE_SPLIT_MIDDLE,
            variant=pb.POSITION_VARIANT_PENULTIMATE,
        )
    ),
    pb.Model(
        time_decay=pb.TimeDecay(
            half_life=Duration(seconds=5), age=pb.DECAY_AGE_WHOLE_FROM_CONVERSION, factor=0.25
        )
    ),
    pb.Model(last_non_direct=pb.LastNonDirect(channels=["bookmark", "typed"])),
    pb.Model(
        custom=pb.Custom(first=1, middle=2, last=3, two_touch_rule=pb.TWO_TOUCH_RULE_RENORMALISE)
    ),
    pb.Model(by_position=pb.ByPosition(weights=[3, 1], count_from=pb.COUNT_FROM_LAST, beyond=0.5)),
    pb.Model(
        full_path=pb.FullPath(
            first=0.3, milestones=[pb.Milestone(event_name="lead", weight=0.3)], last=0.2
        )
    ),
    pb.Model(same_touch=pb.SameTouch(within=Duration(seconds=60))),
    pb.Model(markov=pb.Markov(order=3, ignore_non_converting=True)),
    pb.Model(markov=pb.Markov(automatic_order=True, highest_order=2)),
    pb.Model(shapley=pb.Shapley(game=pb.SHAPLEY_GAME_ORDERED, positions=4)),
    pb.Model(
        shapley=pb.Shapley(
            game=pb.SHAPLEY_GAME_LEARNED,
            learner=pb.BaggedLogistic(row_part=0.25, column_part=0.75, rounds=7, ridge=2.0, seed=5),
            pairs=9,
            seed=3,
        )
    ),
]


def bare(kind: str) -> pb.Model:
    message = pb.Model()
    getattr(message, kind).SetInParent()
    return NEEDS.get(kind, message)


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_filled_in_and_then_stay(kind: str) -> None:
    full = encode_model(decode_model(bare(kind)))

    assert full.WhichOneof("kind") == kind
    assert encode_model(decode_model(full)) == full
    enums = [f for f in getattr(full, kind).DESCRIPTOR.fields if f.enum_type is not None]
    assert all(getattr(getattr(full, kind), field.name) != 0 for field in enums)


@pytest.mark.parametrize("asked", ASKED, ids=lambda model: str(model.WhichOneof("kind")))
def test_what_was_asked_for_is_kept(asked: pb.Model) -> None:
    assert encode_model(decode_model(asked)) == asked


def test_a_full_path_without_parts_is_the_w_shape() -> None:
    assert decode_model(bare("full_path")) == w_shaped()
    asked = pb.FullPath(first=0.5, milestones=[pb.Milestone(event_name="lead", weight=0.5)])
    found = decode_model(pb.Model(full_path=asked))
    assert found == FullPath(0.5, (Milestone("lead", 0.5),))


def test_a_model_without_a_kind_is_refused() -> None:
    with pytest.raises(DomainError, match="one kind of model"):
        decode_model(pb.Model())
