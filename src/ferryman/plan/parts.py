"""Steps of which more than one way is made: how each begins, and the firmware's variables."""

from ferryman.model.guest import Disk
from ferryman.model.plan import NewDisk, Step
from ferryman.model.request import Options
from ferryman.model.site import Site
from ferryman.model.units import format_size


def first_steps(site: Site, options: Options, *, mark: str) -> list[Step]:
    """What is kept, and said to other operators (`mark`: how), before anything is made."""
    source = site.source.host.name
    steps = [_backup(options)] if options.backup_to else []
    steps += [
        Step("save-definition", f"keep the definition and autostart mark found at {source} in the records", ""),
        Step("mark", f"mark {mark} as being moved, for other operators", "remove the mark"),
    ]
    return steps


def replace_definition(destination: str, options: Options) -> list[Step]:
    """None unless it was asked for."""
    does = f"save and remove the inactive definition of the same UUID at {destination}"
    return [Step("replace-definition", does, f"define it again at {destination}")] if options.replace_definition else []


def _backup(options: Options) -> Step:
    """Before anything of the move."""
    return Step(
        "backup",
        f"back it up to {options.backup_to}, read that back, and look at both hosts again",
        "what is complete of it stays",
    )


def eject_media(media: tuple[Disk, ...]) -> list[Step]:
    """None when none is to be taken out."""
    drives = ", ".join(disk.target for disk in media)
    return [Step("eject-media", f"take the media out of {drives}", f"put them back into {drives}")] if media else []


def volume(disk: NewDisk, destination: str, then: str = "") -> Step:
    """`then`: what becomes of it."""
    kind = f"{disk.format}, converted from {disk.converted_from}" if disk.converted_from else disk.format
    what = f"make a volume {disk.name} in pool {disk.pool} at {destination} for {disk.target} ({kind}, {format_size(disk.capacity)})"
    return Step("make-volumes", f"{what}; {then}" if then else what, "remove it again")


def autostart_off(source: str) -> Step:
    """So that a source which restarts does not start the guest beside the one that moved."""
    return Step("autostart-off", f"switch autostart off at {source}", f"switch autostart on again at {source}")


def autostart_on(destination: str) -> Step:
    """Which does not travel."""
    return Step("autostart-on", f"switch autostart on at {destination}", "", past_return=True)


def copy_nvram(nvram: str, destination: str) -> Step:
    """A variable store that no other host sees."""
    return Step(
        "copy-nvram",
        f"copy the firmware's variables ({nvram}) to {destination}, and read them back",
        f"remove the copy, or put back what {destination} had there",
    )


def note_left(source: str) -> Step:
    """Nothing that stays is left unsaid."""
    return Step(
        "note-left", f"name the files that stay at {source}; disks until: ferryman retire", "", past_return=True
    )
