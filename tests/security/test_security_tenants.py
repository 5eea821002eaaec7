"""Every RPC, called with what must not get in: another tenant's key, none, one without the role,
and bytes that are no request.
"""

import time
from contextlib import ExitStack

import numpy as np
import pytest
from touchstone.common.v1 import access_service_pb2, rpc_pb2

from shared.errors import Code
from shared.security.audit import Outcome, SqlAuditLog
from shared.security.caller import Role
from shared.server.validation import RequestValidator
from shared.testing.postgres import postgres_server
from tests.security.contracts import disturbed, methods
from tests.security.suite import SECRET, running_suite

METHODS = methods()
# Calls that name a thing of a project in their request: to another tenant it does not exist.
NAMING = [m for m in METHODS if b"projects/alpha" in m.request("alpha").SerializeToString()]
each_rpc = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
each_naming = pytest.mark.parametrize("method", NAMING, ids=lambda method: method.path)
LISTS = [m for m in METHODS if "page_token" in m.descriptor.input_type.fields_by_name]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def suite(request, tmp_path_factory):
    """The suite on each of the databases."""
    with ExitStack() as stack:
        url = ""
        if request.param == "postgres":
            url = stack.enter_context(postgres_server()).url()
        folder = tmp_path_factory.mktemp("suite")
        yield stack.enter_context(running_suite(folder, database_url=url))


def denied(suite, project):
    """Method and actor of the denied attempts in a project's audit log."""
    with suite.platform.database.read() as connection:
        log = SqlAuditLog(connection, suite.platform.audit_keys)
        events = [entry.event for entry in log.entries(project, limit=10_000)]
    return {(e.method, e.actor) for e in events if e.outcome is Outcome.DENIED}


def key_id(metadata):
    return metadata[0][1].split("_")[1]


@each_rpc
def test_request_made_from_the_contract_is_valid(method):
    RequestValidator().check(method.request("alpha"), "")


def test_the_first_tenant_sees_what_the_second_must_not(suite):
    """Without this, the tests below could pass because there is nothing to see."""
    until = time.monotonic() + 20
    told = ("Get", "List", "Stream", "CompareModels", "ExportScores")
    unseen = {m.path: m for m in METHODS if m.descriptor.name.startswith(told)}
    unseen.pop("/touchstone.common.v1.AccessService/GetCaller")
    unseen.pop("/touchstone.events.v1.EventsService/GetWatermark")
    unseen.pop("/touchstone.common.v1.AuditService/ListAuditEntries")
    # A backup is of all projects, and its list shows nothing of any.
    unseen.pop("/touchstone.events.v1.BackupService/ListBackups")
    # Its id is made by the service; and how long events are kept holds no text.
    unseen.pop("/touchstone.events.v1.ErasureService/GetErasure")
    unseen.pop("/touchstone.events.v1.RetentionService/GetRetention")
    # What is listed is fingerprints, by a name that another tenant cannot use.
    unseen.pop("/touchstone.assignment.v1.AssignmentService/GetIdList")
    # No other experiment runs beside it that could be named, and none is over.
    unseen.pop("/touchstone.results.v1.EvaluationService/GetInteractions")
    unseen.pop("/touchstone.results.v1.EvaluationService/GetProgramEffect")
    # It says the project and the version, no more.
    unseen.pop("/flagd.sync.v1.FlagSyncService/GetMetadata")
    unseen.pop("/google.longrunning.Operations/GetOperation")
    unseen.pop("/google.longrunning.Operations/ListOperations")
    # These are figures without a name, and nobody was invited.
    figures = ("GetPathLengths", "GetTimeLags", "GetSequenceEffect")
    nameless = (*(f"PathService/{name}" for name in figures), "ReferralService/GetReferrals")
    for name in nameless:
        unseen.pop(f"/touchstone.attribution.v1.{name}")
    while unseen and time.monotonic() < until:
        for path, method in list(unseen.items()):
            if SECRET in suite.call(method, method.request("alpha"), suite.alpha).text:
                del unseen[path]
        time.sleep(0.2)
    answers = {p: suite.call(m, m.request("alpha"), suite.alpha) for p, m in unseen.items()}
    assert sorted(answers) == []


@each_rpc
def test_another_tenants_key_sees_nothing(suite, method):
    answer = suite.call(method, method.request("alpha"), suite.beta)
    # These say again what the request said.
    echoes = {"LogEvents", "Export", "TestChannelGrouping", "AllocateBudget"}
    assert SECRET not in answer.text or method.descriptor.name in echoes
    if method in NAMING:
        assert answer.error is not None
        assert (answer.error.code, answer.error.reason) == (Code.NOT_FOUND, "RESOURCE_NOT_FOUND")
        assert (method.path, key_id(suite.beta)) in denied(suite, "beta")
    elif "config_version" in method.descriptor.input_type.fields_by_name:
        # Versions are counted for each project: this one has none.
        assert answer.error is not None
        assert answer.error.code is Code.INVALID_ARGUMENT
    elif "flag_key" in method.descriptor.input_type.fields_by_name:
        # A flag is named without its project, which is the caller's: that has none of this key.
        assert answer.error is not None
        assert answer.error.code is Code.NOT_FOUND
    elif "digest" in method.descriptor.input_type.fields_by_name:
        # The same content in another project is nothing to this one.
        assert answer.error is not None
        assert answer.error.code is Code.NOT_FOUND
    else:
        assert answer.error is None


@each_naming
def test_what_is_not_there_looks_like_what_is_another_tenants(suite, method):
    theirs = suite.call(method, method.request("alpha"), suite.beta).error
    nobodys = suite.call(method, method.request("nowhere"), suite.beta).error
    assert nobodys.code is theirs.code
    assert nobodys.message.replace("nowhere", "alpha") == theirs.message


@pytest.mark.parametrize(
    "method",
    [m for m in NAMING if m.descriptor.input_type.name == "CreateExperimentRequest"],
    ids=lambda method: method.path,
)
def test_own_request_that_refers_to_another_tenants_thing_is_not_found(suite, method):
    request = method.request("alpha", parent="projects/beta")
    answer = suite.call(method, request, suite.beta)
    assert answer.error is not None
    assert answer.error.code is Code.NOT_FOUND


@pytest.mark.parametrize("method", LISTS, ids=lambda method: method.path)
def test_page_token_of_another_tenant_is_refused(suite, method):
    from shared.state.paging import read_page

    own = method.request("beta")
    theirs = method.request("alpha")
    for scope in (read_page(theirs, "alpha"), read_page(own, "alpha")):
        request = method.request("beta", page_token=scope.token("1"))
        error = suite.call(method, request, suite.beta).error
        assert error is not None
        assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


@pytest.mark.parametrize("method", LISTS, ids=lambda method: method.path)
def test_forged_page_token_is_refused_or_points_at_nothing(suite, method):
    from shared.state.paging import read_page

    page = read_page(method.request("beta"), "beta")
    for place in ("", "x", "-1", "9" * 40, "1:\0", "9999-99-99 x", "\ud800"):
        try:
            token = page.token(place)
        except UnicodeEncodeError:
            continue
        error = suite.call(method, method.request("beta", page_token=token), suite.beta).error
        assert error is None or error.code is Code.INVALID_ARGUMENT, f"{place!r}: {error.message}"


@each_rpc
def test_without_a_key_nothing_is_answered(suite, method):
    answer = suite.call(method, method.request("alpha"), ())
    assert answer.messages == []
    assert answer.error.code is Code.UNAUTHENTICATED


@each_rpc
def test_key_without_the_role_is_denied_and_audited(suite, method):
    if method.rule.any_role:
        pytest.skip("any valid key is admitted")
    lacking = suite.key("alpha", frozenset(Role) - method.rule.roles)
    answer = suite.call(method, method.request("alpha"), lacking)
    assert answer.messages == []
    assert (answer.error.code, answer.error.reason) == (Code.PERMISSION_DENIED, "MISSING_ROLE")
    assert (method.path, key_id(lacking)) in denied(suite, "alpha")


@each_rpc
def test_each_role_that_the_rule_names_is_enough(suite, method):
    for role in method.rule.roles:
        key = suite.key("gamma", frozenset({role}))
        error = suite.call(method, b"\xff", key).error
        assert error.reason == "MALFORMED_REQUEST"


@each_rpc
def test_bytes_that_are_no_request_are_invalid(suite, method):
    error = suite.call(method, b"\xff" * 9, suite.alpha).error
    assert (error.code, error.reason) == (Code.INVALID_ARGUMENT, "MALFORMED_REQUEST")


@each_rpc
def test_no_bytes_whatever_are_an_unexpected_failure(suite, method):
    """Noise, and a valid request with some of its bytes changed or cut off."""
    generator = np.random.default_rng(20260101)
    good = method.request("delta").SerializeToString()
    key = suite.key("delta", frozenset(Role))
    for _ in range(15):
        noise = generator.bytes(int(generator.integers(1, 60)))
        changed = bytearray(good or b"\0")
        for place in generator.integers(0, len(changed), 3):
            changed[place] = int(generator.integers(0, 256))
        cut = good[: int(generator.integers(0, len(good) + 1))]
        for body in (noise, bytes(changed), cut):
            error = suite.call(method, body, key).error
            assert error is None or error.code is not Code.INTERNAL, f"{body!r}: {error.message}"


@each_rpc
def test_no_message_whatever_is_an_unexpected_failure(suite, method):
    """Requests of the right shape with values at and beyond every edge."""
    generator = np.random.default_rng(20260102)
    key = suite.key("delta", frozenset(Role))
    for _ in range(40):
        request = disturbed(method.request("delta"), generator)
        error = suite.call(method, request, key).error
        assert error is None or error.code is not Code.INTERNAL, f"{request}: {error.message}"


def test_key_that_expires_at_no_time_is_invalid(suite):
    create = next(m for m in METHODS if m.descriptor.name == "CreateKey")
    for seconds, nanos in ((253_402_300_800, 0), (2**63 - 1, 0), (2**33, -1), (2**33, 10**9)):
        request = access_service_pb2.CreateKeyRequest(
            parent="projects/alpha", roles=[rpc_pb2.ROLE_VIEWER]
        )
        request.expire_time.seconds, request.expire_time.nanos = seconds, nanos
        error = suite.call(create, request, suite.alpha).error
        assert error is not None
        assert error.code is Code.INVALID_ARGUMENT
        assert "expire_time" in error.message


def test_the_audit_log_holds_after_all_that(suite):
    for project in ("alpha", "beta", "-"):
        with suite.platform.database.read() as connection:
            found = SqlAuditLog(connection, suite.platform.audit_keys).verify(project)
        assert found.intact, found.problem
        assert found.checked > 0
