"""The steps of a cold move: the guest is stopped, its disks are copied, and it starts at the destination with its links down.

A warm one copies most of them before. The workflow in execute/cold.py carries out exactly these. The point of no return is ours: the links go up.
"""

from ferryman.model.guest import Disk, Guest
from ferryman.model.plan import Adaption, Ahead, Held, Method, NewDisk, Plan, Step
from ferryman.model.request import Handshake, Options
from ferryman.model.site import Site
from ferryman.model.units import format_duration, format_size
from ferryman.plan import disks, parts, snapshots
from ferryman.plan.adaption import adaption
from ferryman.plan.ahead import copied_ahead, read_again
from ferryman.plan.way import Way, way_of_disks

_HOLDABLE = ("file", "block")  # an image of these is opened by a path of the host


def cold_plan(site: Site, options: Options) -> Plan:
    """What will be done to move this guest stopped between these two hosts. One that is off stays off."""
    guest, source, destination = site.guest, site.source.host.name, site.destination.host.name
    kept = site.kept if options.rollback_loses_writes else None
    starts, new = not guest.off, disks.new_disks(site, options)
    nvram = "" if kept else disks.local_nvram(site)
    media, held = disks.ejected(site, options), images_to_hold(site, options)
    steps = parts.first_steps(site, options, mark="the guest in its own metadata")
    steps += [parts.volume(disk, destination) for disk in new]
    steps.append(Step("try-definition", f"have libvirt at {destination} look through the definition, which it does not keep", ""))  # fmt: skip
    ahead = copied_ahead(site, options)
    if ahead:
        steps += _ahead(ahead, site, options)
    steps += [*parts.replace_definition(destination, options), *parts.eject_media(media)]
    if guest.autostart:
        steps.append(parts.autostart_off(source))
    if starts:
        steps.append(Step("stop", _how_it_stops(guest, options), f"start it again at {source}"))
    if held:
        names = ", ".join(image.target for image in held)
        steps.append(
            Step("hold", f"hold {names} at {source}, so that nothing can start the guest there", "let them go")
        )
    if nvram:
        steps.append(parts.copy_nvram(nvram, destination))
    tpm, saved = ("", "") if kept else (tpm_state(guest), saved_memory(guest))
    if tpm:
        steps.append(
            Step("copy-tpm", f"copy the TPM's state ({tpm}) to {destination}", "put back what was there before")
        )
    if saved:
        steps.append(Step("copy-saved", f"copy the saved memory ({saved}) to {destination}", "remove the copy"))
    if new:
        beside = "; and the files that its snapshots keep" if snapshots.along(site, options) else ""
        how = (_how_the_rest_is_copied(ahead, new, site) if ahead else _how_it_is_copied(new, site, options)) + beside
        steps.append(Step("copy-disks", how, "they are removed with their volumes"))
    down = ", its network links down" if starts else ", shut off"
    if kept:
        down = f" as it was there before request {kept.request}, on the disks that were left there{down}"
    steps += [
        Step("arrive", f"define the guest at {destination}{down}", f"remove that definition at {destination}"),
        Step("leave", f"remove the definition at {source}; disks and variables stay", f"define it again at {source}"),
    ]
    if starts:
        steps += [
            Step("start", f"start it at {destination}{_ON_KEPT_DISKS if kept else ''}", f"stop it at {destination}"),
            Step("health", _how_it_is_judged(guest), ""),
        ]
    steps.append(
        Step("settle", "ask both hosts what they have of the guest, and let that pair decide: forward or back", "")
    )
    steps += _past_return(site, options, starts=starts, held=held, new=new, ahead=ahead)
    return Plan(
        method=Method.WARM if options.warm else Method.COLD,
        guest=guest.name,
        source=source,
        destination=destination,
        steps=tuple(steps),
        handshake=Handshake.CARRIED,  # ferryman does it all itself
        peer_uri="",
        migration_uri="",
        encrypted=not options.insecure,
        persistent=True,
        autostart=guest.autostart,
        new_disks=new,
        nvram=nvram,
        ejected=tuple(disk.target for disk in media),
        networks={} if kept else disks.networks(guest, options),
        starts=starts,
        held=held,
        snapshots=bool(guest.snapshots) and not kept,
        snapshot_files=snapshots.along(site, options),
        adaption=Adaption() if kept else adaption(site, options),
        take_back=kept.request if kept else "",
        stays={disk.target: disk.source for disk in guest.disks if _stays(disk, site)} if kept else {},
        tpm=tpm,
        saved=saved,
        ahead=ahead,
        reads_for=read_again(site, [disk.target for disk in ahead if not disk.remembers]).seconds,
    )


def _ahead(ahead: tuple[Ahead, ...], site: Site, options: Options) -> list[Step]:
    names = ", ".join(disk.target for disk in ahead)
    by = " through ssh, by way of this machine" if way_of_disks(site, options)[0] is Way.SSH else ""
    copied = f"copy {names}{by} while it runs, then what it wrote meanwhile, until little is left; read back what was written"
    undo = "end the backup job, forget its checkpoints, remove the copies"
    steps = [Step("copy-ahead", copied, undo)]
    if options.waits:
        steps.append(Step("wait", f"wait for {'the window ' + options.window if options.window else options.at}", ""))
        steps.append(Step("catch-up", f"copy what it wrote to {names} while that was waited for", undo))
    return steps


_ON_KEPT_DISKS = ": from then on the disks that were left there are written to, also if the move is put back"
HEALTHY_FOR = 5.0  # seconds that a guest must run at the destination before its links go up


def _past_return(
    site: Site,
    options: Options,
    *,
    starts: bool,
    held: tuple[Held, ...],
    new: tuple[NewDisk, ...],
    ahead: tuple[Ahead, ...],
) -> list[Step]:
    source, destination = site.source.host.name, site.destination.host.name
    steps = [
        Step("open", "set its network links up" if starts else "from here on there is no way back", "", True),
    ]
    if site.guest.autostart:
        steps.append(parts.autostart_on(destination))
    if held:
        first = (
            "if it had to be switched off, look through their file systems (guestfish); "
            if options.force_off and starts
            else ""
        )
        steps.append(Step("release", f"{first}let the images at {source} go", "", True))
    if any(disk.remembers for disk in ahead):
        steps.append(Step("forget-passes", f"take the record of what was written out of the images at {source}", "", True))  # fmt: skip
    if new or options.rollback_loses_writes or disks.local_nvram(site):
        steps.append(parts.note_left(source))
    if starts:
        steps.append(Step("announce", "make the network learn the guest's new place", "", True))
    steps.append(Step("verify", f"look that {destination} has the guest and {source} has it no more" + (", and ask it from outside" if starts else ""), "", True))  # fmt: skip
    if options.checks and starts:
        steps.append(Step("check", f"ask what was named: {', '.join(options.checks)}", "", True))
    if new and options.retire:
        steps.append(
            Step("retire", f"remove the disks that stay at {source}, once both hosts say who has the guest", "", True)
        )
    return steps


def tpm_state(guest: Guest) -> str:
    """Where libvirt keeps the state of an emulated TPM; empty when the guest has none."""
    return f"/var/lib/libvirt/swtpm/{guest.uuid}" if guest.tpm == "emulator" else ""


def saved_memory(guest: Guest) -> str:
    """Where libvirt keeps the memory of a guest that it saved to be started again later; empty when there is none."""
    return f"/var/lib/libvirt/qemu/save/{guest.name}.save" if guest.managed_save and guest.off else ""


def images_to_hold(site: Site, options: Options) -> tuple[Held, ...]:
    """The images that the guest writes to and that its host opens by a path; each once."""
    copied = disks.to_copy(site, options)
    found = (
        Held(
            disk.target,
            disk.source,
            "raw" if disk.encrypted else disk.format,
            shared=disk not in copied and disks.shared(disk, site),
        )
        for disk in site.guest.disks
        if can_be_held(disk)
    )
    by_path: dict[str, Held] = {}
    for image in found:
        by_path.setdefault(image.path, image)
    return tuple(by_path.values())


def can_be_held(disk: Disk) -> bool:
    """A medium is not written to; network storage, and a volume named by its pool, has no path that we could open."""
    return disk.source.startswith("/") and not disk.read_only and not disk.shareable and disk.kind in _HOLDABLE


def _stays(disk: Disk, site: Site) -> bool:
    return bool(disk.source) and not disk.read_only and not disks.shared(disk, site)


def _how_it_stops(guest: Guest, options: Options) -> str:
    asked = "ask it by its agent, then by the power button, to shut down" if guest.agent else "press its power button"
    waited = f"{asked}, and wait for {format_duration(options.stop_timeout)} at most"
    if options.force_off:
        return f"{waited}; then switch it off"
    return f"{waited}; one that goes on running is not moved"


def _how_it_is_judged(guest: Guest) -> str:
    runs = f"look whether it runs for {format_duration(HEALTHY_FOR)} without a crash or a reboot"
    return (
        f"{runs}, and {'its agent answers' if guest.agent else 'it answers'} again, on its console too if it did before"
    )


def _how_it_is_copied(new: tuple[NewDisk, ...], site: Site, options: Options) -> str:
    names, size = ", ".join(disk.target for disk in new), format_size(sum(disk.allocation for disk in new))
    proof = {
        "full": "then all of it is read back and its digest compared",
        "written": "then what was written is read back and compared",
        "none": "every block is proved on arrival, nothing is read back",
    }[options.verify]
    by = " through ssh, by way of this machine" if way_of_disks(site, options)[0] is Way.SSH else ""
    return f"copy the content of {names} ({size} in use){by}; {proof}"


def _how_the_rest_is_copied(ahead: tuple[Ahead, ...], new: tuple[NewDisk, ...], site: Site) -> str:
    """What is left to be done while the guest stands still."""
    kept = [disk.target for disk in ahead if disk.remembers]
    read = [disk.target for disk in ahead if not disk.remembers]
    before = {disk.target for disk in ahead}
    whole = [disk.target for disk in new if disk.target not in before and not disk.read_only]
    parts_of_it = [
        f"what was written to {', '.join(kept)} since the last pass" if kept else "",
        f"what differs in {', '.join(read)}, which is read as a whole for that ({read_again(site, read)})"
        if read
        else "",
        f"all of {', '.join(whole)}" if whole else "",
    ]
    return f"copy {'; '.join(one for one in parts_of_it if one)}; read back what is written now"
