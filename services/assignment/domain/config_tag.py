"""The name of a project's configuration at one version, as HTTP has it."""

import re

_TAG = re.compile(r'"?(?P<project>[a-z0-9-]+)\.(?P<version>[0-9]{1,18})"?')


def config_tag(project: str, config_version: int) -> str:
    """The tag of a version of a project's configuration."""
    return f"{project}.{config_version}"


def tagged_version(project: str, tag: str) -> int | None:
    """The version that a tag names; None when it is none of the project's."""
    found = _TAG.fullmatch(tag)
    return int(found["version"]) if found and found["project"] == project else None
