"""The probe of a container's health check, against real servers."""

import asyncio

import pytest

from shared.server.health import NOT_SERVING
from shared.server.probe import local_address, main, probe
from shared.settings import ServiceSettings
from shared.testing.ports import free_port
from tests.unit.kit.certificates import Authority


async def probed(settings):
    return await asyncio.to_thread(probe, settings, "assignment")


async def status_of(serve, **settings):
    """The status that the probe finds once the server has looked at itself."""
    async with serve(**settings) as served:
        for _ in range(50):
            status = await probed(served.running.application.settings)
            if status == "SERVING":
                break
            await asyncio.sleep(0.02)
        return status


async def test_a_ready_service_is_serving(serve):
    assert await status_of(serve) == "SERVING"


async def test_a_service_that_cannot_keep_its_promise_is_not(serve):
    async with serve() as served:
        served.running.readiness.cancel()
        await served.running.health.set("", NOT_SERVING)
        assert await probed(served.running.application.settings) == "NOT_SERVING"


async def test_an_empty_port_is_unavailable():
    settings = ServiceSettings(assignment_address=f"127.0.0.1:{free_port()}")
    assert await probed(settings) == "UNAVAILABLE"


@pytest.mark.parametrize("mutual", [False, True])
async def test_the_probe_speaks_tls_when_the_service_does(serve, tmp_path, mutual):
    authority = Authority(tmp_path, "authority")
    identity = authority.issue("server")
    found = await status_of(
        serve,
        assignment_address=f"localhost:{free_port()}",
        listen_host="0.0.0.0",
        tls_certificate=identity.certificate,
        tls_key=identity.key,
        tls_client_ca=authority.root if mutual else None,
    )
    assert found == "SERVING"


@pytest.mark.parametrize(
    ("listen", "address", "called"),
    [
        ("", "127.0.0.1:7701", "127.0.0.1:7701"),
        ("", "assignment:7701", "assignment:7701"),
        ("0.0.0.0", "assignment:7701", "127.0.0.1:7701"),
        ("::", "assignment:7701", "[::1]:7701"),
        ("[::]", "assignment:7701", "[::1]:7701"),
        ("10.0.0.5", "assignment:7701", "10.0.0.5:7701"),
    ],
)
def test_it_calls_the_interface_that_the_service_listens_on(listen, address, called):
    settings = ServiceSettings(listen_host=listen, assignment_address=address)
    assert local_address(settings, "assignment") == called


@pytest.mark.parametrize("arguments", [[], ["payments"], ["events", "results"]])
def test_another_service_is_refused_with_the_names_there_are(arguments, capsys):
    assert main(arguments) == 1
    assert "one of assignment, events, results, attribution" in capsys.readouterr().err


def test_a_status_other_than_serving_fails_with_one_line(monkeypatch, capsys):
    monkeypatch.setenv("TOUCHSTONE_EVENTS_ADDRESS", f"127.0.0.1:{free_port()}")
    assert main(["events"]) == 1
    assert capsys.readouterr().err == "error: events is UNAVAILABLE\n"


def test_settings_that_do_not_hold_are_named(monkeypatch, capsys):
    monkeypatch.setenv("TOUCHSTONE_EVENTS_ADDRESS", "nowhere")
    assert main(["events"]) == 1
    assert "TOUCHSTONE_EVENTS_ADDRESS" in capsys.readouterr().err
