"""Turns the contracts into Python stubs and into the image that the contract checks read.

    python protos/compile.py stubs OUT     typed stubs of every contract
    python protos/compile.py image FILE    an image for `buf lint` and `buf breaking`
    python protos/compile.py release FILE  the contracts alone, kept as the last release

`buf/validate/validate.proto` is not a file of this project: its descriptor is taken from the
installed protovalidate package.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

PROTOS = Path(__file__).parent
# Our own contracts, and those of flagd that its clients speak, declared from what is on the wire.
ROOTS = ("touchstone/", "flagd/")
VALIDATE = "buf/validate/validate.proto"
WELL_KNOWN = Path(protoc.__file__).parent / "_proto"
# buf marks a file of an image as an import in field 8042 of the file, a message whose field 1 is
# `is_import`: tag 8042 << 3 | 2, length 2, then `08 01`.
IMPORT_MARK = bytes([0xD2, 0xF6, 0x03, 0x02, 0x08, 0x01])


def contracts() -> list[str]:
    """The contract files, as protoc names them, sorted."""
    found = (path for root in ROOTS for path in PROTOS.glob(f"{root}**/*.proto"))
    return sorted(path.relative_to(PROTOS).as_posix() for path in found)


def validate_descriptor() -> FileDescriptorProto:
    """The descriptor of validate.proto inside the installed protovalidate package."""
    return FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary())


def run_protoc(arguments: list[str]) -> None:
    """Runs protoc over the contracts; ends the program with its status when it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        dependencies = Path(scratch, "validate.binpb")
        files = [FileDescriptorProto.FromString(d) for d in well_known()]
        dependencies.write_bytes(
            FileDescriptorSet(file=[*files, validate_descriptor()]).SerializeToString()
        )
        status = protoc.main(
            [
                "protoc",
                f"--descriptor_set_in={dependencies}",
                f"-I{PROTOS}",
                f"-I{WELL_KNOWN}",
                *arguments,
            ]
        )
    if status:
        sys.exit(status)


def well_known() -> list[bytes]:
    """The descriptors that validate.proto and the contracts import, each after its own imports."""
    from google.longrunning import operations_pb2
    from google.protobuf import duration_pb2, field_mask_pb2, timestamp_pb2

    found: dict[str, bytes] = {}

    def add(file: FileDescriptor) -> None:
        for dependency in file.dependencies:
            add(dependency)
        found.setdefault(file.name, file.serialized_pb)

    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2, operations_pb2):
        add(module.DESCRIPTOR)
    return list(found.values())


def write_stubs(out: Path) -> None:
    """Writes the typed stubs below `out`, with the packages that make them importable."""
    out.mkdir(parents=True, exist_ok=True)
    run_protoc(
        [
            f"--python_out={out}",
            f"--grpc_python_out={out}",
            f"--mypy_out=quiet:{out}",
            f"--mypy_grpc_out=quiet:{out}",
            VALIDATE,
            *contracts(),
        ]
    )
    for folder in {p.parent for p in out.rglob("*.py")}:
        for package in (folder, *folder.parents):
            if package == out:
                break
            (package / "__init__.py").touch()
    (out / "touchstone" / "py.typed").touch()


def descriptor_set(*, source_info: bool) -> FileDescriptorSet:
    """All contracts with everything they import."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch, "image.binpb")
        info = ["--include_source_info"] if source_info else []
        run_protoc(["--include_imports", *info, f"--descriptor_set_out={out}", *contracts()])
        return FileDescriptorSet.FromString(out.read_bytes())


def write_image(out: Path, files: list[FileDescriptorProto]) -> None:
    """Writes an image in which every file that is not a contract is marked as an import."""
    image = b""
    for file in files:
        data = file.SerializeToString()
        if not file.name.startswith(ROOTS):
            data += IMPORT_MARK
        image += FileDescriptorSet(file=[FileDescriptorProto.FromString(data)]).SerializeToString()
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(image)


def main(command: str, target: str) -> None:
    """Runs one of the commands of the module."""
    match command:
        case "stubs":
            write_stubs(Path(target))
        case "image":
            write_image(Path(target), list(descriptor_set(source_info=True).file))
        case "release":
            own = [f for f in descriptor_set(source_info=False).file if f.name.startswith(ROOTS)]
            Path(target).write_bytes(FileDescriptorSet(file=own).SerializeToString())
        case "released-image":
            released = FileDescriptorSet.FromString((PROTOS / "released.binpb").read_bytes())
            imports = [
                f for f in descriptor_set(source_info=False).file if not f.name.startswith(ROOTS)
            ]
            write_image(Path(target), [*imports, *released.file])
        case _:
            sys.exit(f"unknown command {command!r}: one of stubs, image, release, released-image")


if __name__ == "__main__":
    main(*sys.argv[1:3])
