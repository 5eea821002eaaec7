"""Makes the contracts that the client's packages carry: what each needs of the repository's protos,
without their rules.

`python clients/python/hatch_build.py` writes them into the source tree; a build does so by itself.
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
PROTOS = HERE.parents[1] / "protos"
_RPC = ("google/rpc/status.proto", "google/rpc/error_details.proto")
CONTRACTS = {
    Path("touchstone_events", "contract.binpb"): (
        "touchstone/common/v1/unit.proto",
        "touchstone/events/v1/event.proto",
        "touchstone/events/v1/events_service.proto",
        *_RPC,
    ),
    Path("touchstone_assignment", "local", "contract.binpb"): (
        "touchstone/common/v1/unit.proto",
        "touchstone/assignment/v1/condition.proto",
        "touchstone/assignment/v1/experiment.proto",
        "touchstone/assignment/v1/ruleset.proto",
        "touchstone/assignment/v1/assignment_service.proto",
    ),
}


def contract(own: tuple[str, ...]) -> bytes:
    """A serialized FileDescriptorSet of these protos, each file behind those it imports."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
    from google.rpc import error_details_pb2, status_pb2

    files = {file.name: file for file in _compiler().descriptor_set(source_info=False).file}
    for module in (status_pb2, error_details_pb2):
        file = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        files[file.name] = file
    kept = [_without_rules(files[name], own) for name in own]
    needed = sorted({name for file in kept for name in file.dependency} - {f.name for f in kept})
    known = [files[name] if name in files else _well_known(name) for name in needed]
    # Without a fixed order the same contract would be other bytes.
    return FileDescriptorSet(file=[*known, *kept]).SerializeToString(deterministic=True)


def write(root: Path) -> None:
    """Writes the contracts below `root`, where the protos are at hand.

    A source distribution has no protos; it carries the contracts that were made with it.
    """
    for path, own in CONTRACTS.items():
        target = root / path
        if PROTOS.is_dir():
            made = contract(own)
            if not target.is_file() or target.read_bytes() != made:
                target.write_bytes(made)
        elif not target.is_file():
            sys.exit(f"{target} is missing and no {PROTOS} is there to make it from; use a clone")


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


def _without_rules(file: Any, own: tuple[str, ...]) -> Any:
    """The file without options, without services, and without what only those import."""
    bare = type(file)()
    bare.CopyFrom(file)
    if file.name in _RPC:
        return bare
    bare.ClearField("service")
    bare.ClearField("options")
    kept = [name for name in bare.dependency if name in own or name.startswith("google/protobuf/")]
    del bare.dependency[:]
    bare.dependency.extend(kept)
    for enum in bare.enum_type:
        _clear(enum, *enum.value)
    for message in bare.message_type:
        _clear_message(message)
    return bare


def _clear_message(message: Any) -> None:
    _clear(*message.field, *message.oneof_decl)
    for enum in message.enum_type:
        _clear(enum, *enum.value)
    for nested in message.nested_type:
        _clear_message(nested)
    # Without this option the entries of a map would be no map.
    if not message.options.map_entry:
        _clear(message)


def _clear(*described: Any) -> None:
    for each in described:
        each.ClearField("options")


class ContractHook(BuildHookInterface):  # type: ignore[misc, type-arg, unused-ignore]
    """Puts the contracts, which git ignores, into the packages."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  set by hatch
        """Called before a wheel or a source distribution is made."""
        root = Path(self.root)
        write(root)
        build_data["artifacts"].extend(path.as_posix() for path in CONTRACTS)


if __name__ == "__main__":
    write(HERE)
