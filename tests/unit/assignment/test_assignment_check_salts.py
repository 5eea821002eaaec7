"""The report on all salts of a project."""

from dataclasses import replace

import pytest
from touchstone_assignment.bucketing import HashVersion

from services.assignment.application.check_salts import MOST_SALTS, check_salts
from services.assignment.domain.experiment import State
from services.assignment.domain.holdout import Holdout
from services.assignment.ports import ProjectConfig
from shared.errors import Code, DomainError

UNITS = 4_000


def project(make, count, **more):
    experiments = {
        f"e{n}": make.experiment(State.RUNNING, f"e{n}", salt=f"split/{n}", layer=f"l{n}")
        for n in range(count)
    }
    layers = {f"l{n}": make.layer(layer_id=f"l{n}", salt=f"layer/{n}") for n in range(count)}
    return ProjectConfig(7, **({"experiments": experiments, "layers": layers} | more))


def test_salts_of_their_own_pass(make):
    found = check_salts(project(make, 12), UNITS, 0.001)
    assert (found.salts, found.tests, found.findings) == (24, 24 + 24 * 23 // 2, ())
    assert 0 < found.least_p_value < 1


def test_a_project_without_salts_has_nothing_to_test():
    found = check_salts(ProjectConfig(0, {}, {}), UNITS, 0.001)
    assert (found.salts, found.tests, found.findings, found.least_p_value) == (0, 0, (), 1.0)


def test_two_with_one_salt_are_found_and_named(make):
    config = project(make, 4)
    twin = make.experiment(State.RUNNING, "twin", salt="split/2", layer="l0")
    found = check_salts(
        replace(config, experiments={**config.experiments, "twin": twin}), UNITS, 0.001
    )
    (finding,) = found.findings
    assert {finding.first, finding.second} == {("experiments", "e2"), ("experiments", "twin")}
    assert finding.p_value == 0.0


def test_a_holdout_that_shares_the_salt_of_a_layer_is_found(make):
    holdout = Holdout("acme", "h", 1, make.start, "user", 500, "layer/1", HashVersion.FLAGD_V2)
    found = check_salts(project(make, 2, holdouts={"h": holdout}), UNITS, 0.001)
    assert [(f.first, f.second) for f in found.findings] == [(("layers", "l1"), ("holdouts", "h"))]
    over = replace(holdout, end_time=make.start)
    assert check_salts(project(make, 2, holdouts={"h": over}), UNITS, 0.001).findings == ()


def test_what_is_over_is_left_out(make):
    config = project(make, 3)
    over = {key: replace(e, state=State.STOPPED) for key, e in config.experiments.items()}
    assert check_salts(replace(config, experiments=over), UNITS, 0.001).salts == 0


def test_false_alarms_are_as_rare_as_promised(make):
    alarms = [
        bool(
            check_salts(
                project(
                    make,
                    1,
                    experiments={
                        f"e{n}": make.experiment(State.RUNNING, f"e{n}", salt=f"s{run}/{n}")
                        for n in range(4)
                    },
                    layers={},
                ),
                1_000,
                0.2,
            ).findings
        )
        for run in range(150)
    ]
    assert sum(alarms) < 50


def test_too_many_salts_are_refused_not_left_out(make):
    with pytest.raises(DomainError, match="salts in use") as caught:
        check_salts(project(make, MOST_SALTS // 2 + 1), UNITS, 0.001)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
