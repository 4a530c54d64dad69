"""Settings: one TOML file and the environment, typed. Every field below is a setting; FERRYMAN_<NAME> overrides the file."""

import os
import tomllib
from pathlib import Path

import msgspec

from ferryman.errors import BadInput
from ferryman.model.request import DEFAULT_TIMEOUT


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be set. Sizes are bytes, times seconds; command-line options override."""

    state_directory: str = (
        ""  # records, executor slots; empty: /var/lib/ferryman for root, else the user's state directory
    )
    timeout: float = DEFAULT_TIMEOUT  # a migration that takes longer is put back
    bandwidth: int = 0  # bytes per second; 0: no limit
    max_downtime: float = 0.0  # allowed downtime; 0: the hypervisor's default

    @property
    def directory(self) -> Path:
        """The state directory in force."""
        if self.state_directory:
            return Path(self.state_directory).expanduser()
        if os.geteuid() == 0:
            return Path("/var/lib/ferryman")
        return Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "ferryman"


def settings_file() -> Path:
    """FERRYMAN_SETTINGS, or /etc/ferryman/ferryman.toml for root, or the user's ~/.config/ferryman/ferryman.toml."""
    if named := os.environ.get("FERRYMAN_SETTINGS"):
        return Path(named)
    if os.geteuid() == 0:
        return Path("/etc/ferryman/ferryman.toml")
    return Path(os.environ.get("XDG_CONFIG_HOME", "~/.config")).expanduser() / "ferryman/ferryman.toml"


def load() -> Settings:
    """The settings in force. Raises BadInput naming the file or variable, and the field."""
    path = settings_file()
    values: dict[str, object] = {}
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        pass  # all defaults
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"settings file {path}", str(error), "mend it, or name another in FERRYMAN_SETTINGS") from error
    for name in Settings.__struct_fields__:
        if (text := os.environ.get(f"FERRYMAN_{name.upper()}")) is not None:
            values[name] = text
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"settings ({path} and FERRYMAN_… variables)",
            str(error),
            f"there are: {', '.join(Settings.__struct_fields__)}; times in seconds, sizes in bytes",
        ) from error
