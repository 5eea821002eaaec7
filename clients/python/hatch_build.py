"""Makes the contract that the client carries: what it needs of the repository's protos, without
their rules.

`python clients/python/hatch_build.py` writes it into the source tree; a build does so by itself.
The rules are options of other packages' protos. Without them the client needs neither those
packages nor the compiler's exact version, and its descriptors stay out of the process-wide pool.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).resolve().parent
CONTRACT = Path("touchstone_events", "contract.binpb")
PROTOS = HERE.parents[1] / "protos"
OWN = (
    "touchstone/common/v1/unit.proto",
    "touchstone/events/v1/event.proto",
    "touchstone/events/v1/events_service.proto",
)


def contract() -> bytes:
    """A serialized FileDescriptorSet, each file behind those it imports."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
    from google.rpc import error_details_pb2, status_pb2

    files = {file.name: file for file in _compiler().descriptor_set(source_info=False).file}
    for module in (status_pb2, error_details_pb2):
        file = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        files[file.name] = file
    kept = [_without_rules(files[name]) for name in OWN]
    kept += [files[name] for name in ("google/rpc/status.proto", "google/rpc/error_details.proto")]
    needed = sorted({name for file in kept for name in file.dependency} - {f.name for f in kept})
    known = [files[name] if name in files else _well_known(name) for name in needed]
    # Without a fixed order the same contract would be other bytes.
    return FileDescriptorSet(file=[*known, *kept]).SerializeToString(deterministic=True)


def write(root: Path) -> None:
    """Writes the contract below `root`, where the protos are at hand.

    A source distribution has no protos; it carries the contract that was made with it.
    """
    target = root / CONTRACT
    if PROTOS.is_dir():
        made = contract()
        if not target.is_file() or target.read_bytes() != made:
            target.write_bytes(made)
    elif not target.is_file():
        sys.exit(f"{target} is missing and there is no {PROTOS} to make it from; build in a clone")


def _compiler() -> Any:
    spec = importlib.util.spec_from_file_location("touchstone_compile", PROTOS / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _well_known(name: str) -> Any:
    from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, struct_pb2, timestamp_pb2

    modules = (any_pb2, duration_pb2, struct_pb2, timestamp_pb2)
    by_name = {module.DESCRIPTOR.name: module.DESCRIPTOR.serialized_pb for module in modules}
    return descriptor_pb2.FileDescriptorProto.FromString(by_name[name])


def _without_rules(file: Any) -> Any:
    """The file without options, without services, and without what only those import."""
    bare = type(file)()
    bare.CopyFrom(file)
    bare.ClearField("service")
    bare.ClearField("options")
    kept = [name for name in bare.dependency if name in OWN or name.startswith("google/protobuf/")]
    del bare.dependency[:]
    bare.dependency.extend(kept)
    for enum in bare.enum_type:
        _clear(enum, *enum.value)
    for message in bare.message_type:
        assert not message.nested_type, f"{message.name}: nested messages may carry rules too"
        _clear(message, *message.field, *message.oneof_decl)
    return bare


def _clear(*described: Any) -> None:
    for each in described:
        each.ClearField("options")


class ContractHook(BuildHookInterface):  # type: ignore[misc, type-arg, unused-ignore]
    """Puts the contract, which git ignores, into the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  set by hatch
        """Called before a wheel or a source distribution is made."""
        root = Path(self.root)
        write(root)
        build_data["artifacts"].append(CONTRACT.as_posix())


if __name__ == "__main__":
    write(HERE)
