"""Append the vectors of new cases to assignment_vectors.json; an existing row never changes.

Run from the repository root:  python tests/golden/assignment_vectors.py

A row that no longer comes out the same means that running experiments would reshuffle their
units: the command refuses and writes nothing. New cases go to the end of a list.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = Path(__file__).with_name("assignment_vectors.json")
SLOTS = 10_000

# Keys hashed as they stand: preimages of the edges of the hash, and published examples.
RAW_KEYS = [
    "ejOoVL",
    "bY9fO-",
    "SI7p-",
    "6LvT0",
    "ceQdGm",
    "exp-checkoutuser-42",
    "exp-checkoutu1",
    "exp-checkoutuser-1",
    "exp-checkoutalice",
    "café",
    "k" * 23,
    "k" * 24,
    "k" * 255,
    "k" * 256,
]
# (salt, unit) pairs that go through the key rule.
SALTED = [
    ("layer/default-user", "user-42"),
    ("layer/default-user", "u1"),
    ("split/checkout", "user-42"),
    ("split/checkout", "u1"),
    ("split/checkout", "a b"),
    ("split/checkout", "50%"),
    ("split/checkout", "50%25"),
    ("split/checkout", "a:b"),
    ("split/checkout", "café"),
    ("split/checkout", "cafe\u0301"),
    ("split/checkout", "用户-7"),
    ("split/checkout", "\U0001f600"),
    ("split/checkout", "tab\there"),
    ("split/checkout", "\x7f"),
    ("split/checkout", "x" * 256),
    ("s", "0"),
]


def rows() -> list[dict[str, object]]:
    """Every vector, computed by the code as it is now."""
    from touchstone_assignment.bucketing import (
        HashVersion,
        bucket_of,
        bucketing_key,
        encode_unit,
        hash_key,
    )

    cases: list[tuple[str | None, str | None, str]] = [(None, None, key) for key in RAW_KEYS]
    cases += [(salt, unit, bucketing_key(salt, unit)) for salt, unit in SALTED]
    found: list[dict[str, object]] = []
    for salt, unit, key in cases:
        for version in HashVersion:
            value = hash_key(version, key)
            row: dict[str, object] = {"hash_version": version.value}
            if salt is not None and unit is not None:
                row |= {"salt": salt, "unit": unit, "encoded": encode_unit(unit)}
            row |= {"key": key, "hash": value, "slots": SLOTS, "bucket": bucket_of(value, SLOTS)}
            found.append(row)
    return found


def identity(row: dict[str, object]) -> tuple[object, ...]:
    """What a row is about, without what was computed."""
    return (row["hash_version"], row.get("salt"), row.get("unit"), row["key"])


def main() -> int:
    """Check every existing row, then append those that are new."""
    sys.path.insert(0, str(ROOT / "clients" / "python"))
    existing = json.loads(FILE.read_text("utf-8")) if FILE.exists() else []
    current = {identity(row): row for row in rows()}
    changed = [row for row in existing if current.get(identity(row)) != row]
    if changed:
        print(
            f"refused: {len(changed)} existing vectors would change or vanish, first {changed[0]}"
        )
        return 1
    known = {identity(row) for row in existing}
    added = [row for key, row in current.items() if key not in known]
    FILE.write_text(json.dumps(existing + added, indent=1, ensure_ascii=True) + "\n", "utf-8")
    print(f"{len(existing)} vectors unchanged, {len(added)} added")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
