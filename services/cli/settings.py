"""The settings of the command line: TOUCHSTONE_<NAME> in the environment, or options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError

from shared.settings import Settings, settings_error

DEFAULT_PROJECT = "default"
OPERATOR_PROJECT = "operators"


class CliSettings(Settings):
    """What the command line needs to know of its surroundings."""

    api_key: SecretStr = Field(
        SecretStr(""), description="The key to call with. Default: owner.key in the data folder."
    )

    @property
    def owner_key_path(self) -> Path:
        """The file of the key that the first start makes."""
        return self.data / "owner.key"

    @property
    def operator_key_path(self) -> Path:
        """The file of the key that looks after the installation, once it was made."""
        return self.data / "operator.key"

    @property
    def logs_path(self) -> Path:
        """The folder of the services' log files."""
        return self.data / "logs"

    @property
    def imports_path(self) -> Path:
        """The folder of what is known of unfinished imports."""
        return self.data / "imports"


def read_settings(data: Path | None = None) -> CliSettings:
    """The settings; an option given on the command line wins over the environment.

    Raises INVALID_ARGUMENT that names each variable that does not hold.
    """
    given: dict[str, Any] = {} if data is None else {"data": data}
    try:
        return CliSettings(**given)
    except ValidationError as error:
        raise settings_error(error) from error
