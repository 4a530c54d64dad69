"""The only place where the parts are put together: Site looks at hosts and guests, Moves carries out and remembers, Preparations
makes hosts ready, Copies copies single disks, Backups backs guests up and brings them back."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ferryman import config
from ferryman.app.cpu import cpu_baseline
from ferryman.app.moves import Left, Moves, NotAsked, View
from ferryman.app.site import HostGuests, Site
from ferryman.app.times import begins, timed
from ferryman.errors import BadInput

if TYPE_CHECKING:  # not needed by every command
    from threading import Event

    from ferryman.app.backups import Backups
    from ferryman.app.copies import Copies
    from ferryman.app.preparation import Preparations
    from ferryman.app.serving import Log


@dataclass(frozen=True)
class Application:
    """Everything a surface needs."""

    settings: config.Settings
    site: Site
    moves: Moves

    @property
    def preparations(self) -> "Preparations":
        """Making hosts ready."""
        from ferryman.app.preparation import Preparations

        return Preparations(self.site, self.settings.directory)

    def serve(self, log: "Log", ended: "Event") -> None:
        """Be the executor that waits, until `ended` is set."""
        from ferryman.app.serving import Server

        Server(self.moves, log).run(ended)

    @property
    def backups(self) -> "Backups":
        """Backing guests up, and bringing them back."""
        from ferryman.app.backups import Backups

        return Backups(self.site, self.moves)

    @property
    def copies(self) -> "Copies":
        """Copying single disks."""
        from ferryman.app.copies import Copies
        from ferryman.drivers.copy import SshCopier

        return Copies(self.site, SshCopier())


def application() -> Application:
    """Put the parts together from the settings in force."""
    from ferryman.drivers.database.records import open_records

    settings = config.load()
    try:
        records = open_records(settings.directory)
    except OSError as error:
        raise BadInput(
            f"state directory {settings.directory}", str(error), "set FERRYMAN_STATE_DIRECTORY, or run as root"
        ) from error
    site = Site(records, settings.hooks_in_force, settings.secrets)
    return Application(settings, site, Moves(site, settings.directory))


__all__ = [
    "Application",
    "HostGuests",
    "Left",
    "Moves",
    "NotAsked",
    "Site",
    "View",
    "application",
    "begins",
    "cpu_baseline",
    "timed",
]
