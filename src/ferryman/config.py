"""Settings: one TOML file and the environment, typed. Every field below is a setting; FERRYMAN_<NAME> overrides the file."""

import os
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from ferryman.errors import BadInput
from ferryman.model.hook import Event, Hook
from ferryman.model.request import DEFAULT_TIMEOUT

LONGEST_TIME_LIMIT, MOST_TRIES = 600.0, 10  # of a hook: a move waits for it


class HookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One [[hooks]] of the file: a command or a webhook. Times are seconds."""

    name: str
    on: tuple[Event, ...]
    command: tuple[str, ...] = ()
    webhook: str = ""
    secret: str = ""  # of this webhook; empty: hook_secret
    time_limit: float = 30.0
    tries: int = 3
    must_answer: bool = False
    insecure: bool = False  # a webhook may be asked without TLS

    @property
    def hook(self) -> Hook:
        """Without its secret."""
        return Hook(
            self.name, self.on, self.command, self.webhook, self.time_limit, self.tries, must_answer=self.must_answer
        )


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be set. Sizes are bytes, times seconds; command-line options override."""

    state_directory: str = (
        ""  # records, executor slots; empty: /var/lib/ferryman for root, else the user's state directory
    )
    timeout: float = DEFAULT_TIMEOUT  # a migration that takes longer is put back
    bandwidth: int = 0  # bytes per second; 0: no limit
    max_downtime: float = 0.0  # allowed downtime; 0: the hypervisor's default
    retry: int = 0  # a move that failed by what gets better by itself is tried so many more times
    hook_secret: str = ""  # signs what webhooks get that have no secret of their own
    hooks: tuple[HookSettings, ...] = ()  # in the file only

    @property
    def hooks_in_force(self) -> tuple[Hook, ...]:
        """The hooks, without secrets."""
        return tuple(one.hook for one in self.hooks)

    @property
    def secrets(self) -> dict[str, str]:
        """What signs each webhook, by the hooks' names."""
        return {one.name: one.secret or self.hook_secret for one in self.hooks if one.webhook}

    @property
    def secret_in_file(self) -> bool:
        """Whether the file itself has one."""
        return any(one.secret for one in self.hooks) or bool(
            self.hook_secret and "FERRYMAN_HOOK_SECRET" not in os.environ
        )

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
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise BadInput(
            f"settings ({path} and FERRYMAN_… variables)",
            str(error),
            f"there are: {', '.join(Settings.__struct_fields__)}; times in seconds, sizes in bytes",
        ) from error
    for hook in settings.hooks:
        if why := _wrong(hook, settings):
            raise BadInput(f"hook '{hook.name}' in {path}", why, "mend it in that file")
    return settings


def _wrong(hook: HookSettings, settings: Settings) -> str:
    """Why a hook cannot be used; empty when it can."""
    webhook = urlsplit(hook.webhook)
    if not re.fullmatch(r"[\w.-]+", hook.name):
        return "its name must be letters, digits, '-', '.' and '_'"
    if sum(one.name == hook.name for one in settings.hooks) > 1:
        return "another has the same name"
    if not hook.on:
        return f"'on' names no event: {', '.join(Event)}"
    if bool(hook.command) is bool(hook.webhook):
        return "it needs a command or a webhook, one of them"
    if hook.webhook and (webhook.scheme not in ("http", "https") or not webhook.hostname):
        return "its webhook is no URL: write https://…"
    if hook.webhook and webhook.scheme == "http" and not hook.insecure:
        return "its webhook would be asked without TLS: write https://…, or insecure = true"
    if hook.webhook and not settings.secrets[hook.name]:
        return "nothing signs what it gets: give it a secret, or set hook_secret (FERRYMAN_HOOK_SECRET)"
    if not 0 < hook.time_limit <= LONGEST_TIME_LIMIT or not 1 <= hook.tries <= MOST_TRIES:
        return f"time_limit goes up to {LONGEST_TIME_LIMIT:.0f} seconds, tries from 1 to {MOST_TRIES}"
    return ""
