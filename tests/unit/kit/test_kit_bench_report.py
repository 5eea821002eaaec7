import io
import json

import pytest
from rich.console import Console

from tests.bench.__main__ import run_benches
from tests.bench.report import (
    BenchRow,
    compared,
    goal_met,
    missing,
    peer_environment,
    print_rows,
    write_rows,
)


def test_ratio_and_verdict_follow_from_the_figures():
    row = compared(
        "ingest", "batch", ours=50, reference=100, reference_name="raw", unit="ev/s", goal=">= 0.4"
    )
    assert row.ratio == 0.5
    assert row.met is True
    assert goal_met(0.39, ">= 0.4") is False
    assert goal_met(3, "") is None
    with pytest.raises(ValueError, match="allowed"):
        goal_met(3, "about 3")


def test_missing_reference_is_never_beaten(tmp_path):
    row = missing(
        "a", "n", ours=1e9, reference_name="peer", unit="s", goal=">= 0", reason="no wheel"
    )
    assert (row.reference, row.ratio, row.met) == (None, None, None)
    out = io.StringIO()
    print_rows([row], Console(file=out, width=200))
    assert out.getvalue().count("missing") >= 2
    write_rows([row], tmp_path / "deep" / "bench.json")
    (read,) = json.loads((tmp_path / "deep" / "bench.json").read_text())
    assert set(read) == set(BenchRow.__dataclass_fields__)
    assert read["met"] is None
    with pytest.raises(ValueError, match="never met"):
        BenchRow("a", "n", 1, None, "peer", "s", None, "", True)


def test_one_failing_bench_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "somebenches"
    folder.mkdir()
    (folder / "bench_bad.py").write_text("def run():\n    raise RuntimeError('broken')\n")
    (folder / "bench_good.py").write_text(
        "from tests.bench.report import BenchRow\n"
        "def run():\n"
        "    return [BenchRow('a', 'n', 1, 2, 'peer', 's', 0.5, '', None)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    rows, failed = run_benches("somebenches", folder, [])
    assert [row.name for row in rows] == ["n"]
    assert failed == ["bench_bad"]
    assert "broken" in capsys.readouterr().err


def test_peer_that_cannot_be_installed_has_a_reason(tmp_path):
    python, reason = peer_environment("none", [str(tmp_path / "no-such-file.whl")], tmp_path)
    assert python is None
    assert reason
