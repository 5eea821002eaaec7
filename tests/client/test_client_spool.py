"""The spool: what was written is read, in order, whatever is cut off or bent; and one slot has one
process.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touchstone_events.buffer import Batch
from touchstone_events.spool import (
    HEADER_BYTES,
    MAGIC,
    Spool,
    claim,
    claim_orphan,
    read_records,
)

LIMITS = (1 << 20, 1 << 14)
BATCHES = [Batch(bytes([65 + n]) * (7 * n + 1), n + 1) for n in range(6)]


def claimed(folder, limits=LIMITS, unreadable=lambda _: None) -> Spool:
    spool = claim(folder, limits, unreadable)
    assert spool is not None
    return spool


def drain(spool):
    found = []
    while (batch := spool.first()) is not None:
        found.append((batch.body, batch.events))
        spool.acknowledge()
    return found


def plain(batches):
    return [(batch.body, batch.events) for batch in batches]


def segments(folder):
    return sorted(folder.glob("slot-*/*.segment"))


def written(tmp_path):
    """The bytes of one segment with all the batches."""
    spool = claimed(tmp_path)
    for batch in BATCHES:
        assert spool.append(batch)
    spool.close()
    (path,) = segments(tmp_path)
    return path.read_bytes()


def test_what_was_appended_comes_back_in_order_and_is_gone_once_acknowledged(tmp_path):
    spool = claimed(tmp_path)
    for batch in BATCHES:
        assert spool.append(batch)
    assert spool.events == sum(batch.events for batch in BATCHES)
    assert drain(spool) == plain(BATCHES)
    assert (spool.events, spool.size_bytes, segments(tmp_path)) == (0, 0, [])


def test_another_process_finds_what_was_left_across_segments(tmp_path):
    small = (1 << 20, 40)
    spool = claimed(tmp_path, small)
    for batch in BATCHES:
        spool.append(batch)
    spool.close()
    assert len(segments(tmp_path)) > 2
    again = claimed(tmp_path, small)
    assert again.events == sum(batch.events for batch in BATCHES)
    assert drain(again) == plain(BATCHES)


def test_reading_and_writing_take_turns(tmp_path):
    spool = claimed(tmp_path)
    spool.append(BATCHES[0])
    spool.append(BATCHES[1])
    assert spool.first() == Batch(BATCHES[0].body, BATCHES[0].events)
    spool.append(BATCHES[2])
    spool.acknowledge()
    spool.append(BATCHES[3])
    assert drain(spool) == plain(BATCHES[1:4])


def test_a_segment_cut_at_any_byte_gives_exactly_its_whole_records(tmp_path):
    data = written(tmp_path)
    ends = [len(MAGIC)]
    for batch in BATCHES:
        ends.append(ends[-1] + HEADER_BYTES + len(batch.body))
    assert ends[-1] == len(data)
    for cut in range(len(data) + 1):
        whole = sum(cut >= end for end in ends[1:])
        bad: list[int] = []
        found = list(read_records(data[:cut], bad.append))
        assert plain(found) == plain(BATCHES[:whole]), cut
        last_end = max((end for end in ends if end <= cut), default=0)
        assert sum(bad) == cut - last_end, cut


def test_a_process_goes_on_behind_a_torn_end(tmp_path):
    data = written(tmp_path)
    (path,) = segments(tmp_path)
    for cut in range(len(data)):
        path.write_bytes(data[:cut])
        lost: list[int] = []
        spool = claimed(tmp_path, unreadable=lost.append)
        before = len(list(read_records(data[:cut], lambda _: None)))
        assert spool.append(BATCHES[5])
        assert drain(spool) == plain([*BATCHES[:before], BATCHES[5]]), cut
        assert segments(tmp_path) == []
        spool.close()


def test_a_bent_byte_never_gives_other_events(tmp_path):
    data = written(tmp_path)
    allowed = plain(BATCHES)
    for at in range(len(MAGIC), len(data)):
        bent = bytearray(data)
        bent[at] ^= 0x40
        found = plain(read_records(bytes(bent), lambda _: None))
        assert all(each in allowed for each in found), at
        assert len(found) < len(allowed), at


@settings(max_examples=60, deadline=None)
@given(
    bodies=st.lists(st.tuples(st.binary(max_size=200), st.integers(1, 5000)), max_size=12),
    segment=st.integers(1, 400),
    data=st.data(),
)
def test_any_batches_survive_any_cut_up_to_the_cut(tmp_path_factory, bodies, segment, data):
    folder = tmp_path_factory.mktemp("spool")
    spool = claimed(folder, (1 << 20, segment))
    for body, events in bodies:
        assert spool.append(Batch(body, events))
    spool.close()
    files = segments(folder)
    kept = bodies
    if files:
        size = files[-1].stat().st_size
        cut = data.draw(st.integers(0, size))
        whole = list(read_records(files[-1].read_bytes(), lambda _: None))
        os.truncate(files[-1], cut)
        left = len(list(read_records(files[-1].read_bytes(), lambda _: None)))
        kept = bodies[: len(bodies) - len(whole) + left]
    assert drain(claimed(folder, (1 << 20, segment))) == kept


def test_a_hole_of_zeros_is_no_record():
    bad: list[int] = []
    assert list(read_records(MAGIC + bytes(4096), bad.append)) == []
    assert sum(bad) == 4096


def test_a_full_spool_takes_no_more_until_something_was_sent(tmp_path):
    spool = claimed(tmp_path, (300, 100))
    taken = 0
    while spool.append(Batch(bytes(50), 1)):
        taken += 1
    assert 2 <= taken <= 4
    assert spool.size_bytes <= 300
    assert sum(path.stat().st_size for path in segments(tmp_path)) == spool.size_bytes
    while spool.first() is not None and not spool.append(Batch(bytes(50), 1)):
        spool.acknowledge()
    assert spool.size_bytes <= 300


def test_processes_have_slots_of_their_own(tmp_path):
    one, other = claimed(tmp_path), claimed(tmp_path)
    one.append(BATCHES[0])
    other.append(BATCHES[1])
    assert len(segments(tmp_path)) == 2
    assert claim_orphan(tmp_path, LIMITS, lambda _: None) is None
    other.close()
    orphan = claim_orphan(tmp_path, LIMITS, lambda _: None)
    assert orphan is not None
    assert drain(orphan) == plain(BATCHES[1:2])


def test_the_slot_of_a_process_that_is_killed_is_free(tmp_path):
    script = (
        "import os, signal, sys; from pathlib import Path\n"
        "from touchstone_events.spool import claim\n"
        "from touchstone_events.buffer import Batch\n"
        "spool = claim(Path(sys.argv[1]), (1 << 20, 1 << 14), lambda _: None)\n"
        "spool.append(Batch(b'from the dead', 3))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": "clients/python"},
        check=False,
    )
    assert done.returncode == -9
    assert drain(claimed(tmp_path)) == [(b"from the dead", 3)]


def test_a_disk_that_is_full_leaves_a_spool_that_can_be_read(tmp_path):
    """A limit on the size of files stands in for the disk: the write stops in the middle."""
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from touchstone_events.spool import claim\n"
        "from touchstone_events.buffer import Batch\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "spool = claim(Path(sys.argv[1]), (1 << 20, 1 << 14), lambda _: None)\n"
        "spool.append(Batch(b'a' * 500, 1))\n"
        "try:\n"
        "    spool.append(Batch(b'b' * 600, 1))\n"
        "except OSError as error:\n"
        "    print(error.strerror)\n"
        "spool.append(Batch(b'c' * 400, 1))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": "clients/python"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "too large" in done.stdout
    lost: list[int] = []
    spool = claimed(tmp_path, unreadable=lost.append)
    assert [body[:1] for body, _ in drain(spool)] == [b"a", b"c"]
    assert sum(lost) > 0


def test_a_segment_that_cannot_be_deleted_is_not_sent_over_and_over(tmp_path):
    """A folder in its place stands for a disk that does not delete."""
    spool = claimed(tmp_path, (1 << 20, 10))
    spool.append(BATCHES[0])
    spool.append(BATCHES[1])
    first, _ = segments(tmp_path)
    assert spool.first() is not None
    first.unlink()
    first.mkdir()
    with pytest.raises(OSError, match=r"directory|permitted"):
        spool.acknowledge()
    assert drain(spool) == plain(BATCHES[1:2])


def test_a_segment_that_cannot_be_read_is_left_where_it_is(tmp_path):
    lost: list[int] = []
    spool = claimed(tmp_path, (1 << 20, 10), lost.append)
    spool.append(BATCHES[0])
    spool.append(BATCHES[1])
    first, _ = segments(tmp_path)
    first.unlink()
    first.mkdir()
    assert drain(spool) == plain(BATCHES[1:2])
    assert lost
    assert (spool.events, spool.size_bytes) == (0, 0)
    assert first.exists()


def test_files_are_for_their_owner_only(tmp_path):
    spool = claimed(tmp_path / "spool")
    spool.append(BATCHES[0])
    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "spool").rglob("*")}
    assert modes == {0}
