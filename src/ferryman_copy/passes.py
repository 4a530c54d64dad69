"""A disk is copied in passes under one id: each brings what changed since the one before. Here is what of the journal still stands when a
pass begins or is taken up; images are not looked at.

A *known* group is at the destination as the journal's digests say. Before a pass writes into one it notes a horizon, below which all known
groups are in doubt if it ends early: those are compared by what lies on storage."""

import contextlib
import os
import time

from ferryman_copy import places
from ferryman_copy.blocks import GROUP, groups_in, ranges, within
from ferryman_copy.journal import Journal, journal_path
from ferryman_copy.trouble import Trouble

HORIZON = 16  # known groups that are put in doubt at once: for each such step the journal is flushed, and up to so many are read again


def take_up(journal: Journal, fingerprint: str) -> None:
    """An attempt before this one ended. If its source was another, or none that can be watched, a new pass begins: what was done is known."""
    facts = journal.facts
    for group in [group for group in journal.known if group <= facts.get("horizon", -1)]:
        journal.note_bad(group)
    new = facts["fingerprint"] != fingerprint
    if new or not fingerprint:
        journal.doubt(sorted(journal.done))
        # Last: until this is on storage the pass is the old one, for which a group too many that is only known does no harm.
        begun = (
            {"pass_at": journal.end, "horizon": -1, "received": 0, "attempts": 0, "began": time.time()} if new else {}
        )
        journal.note(fingerprint=fingerprint, doubt="all", **begun)


def leave_clean(journal: Journal, dirty: list[list[int]] | None) -> list[list[int]]:
    """Known groups without a dirty block are done as they are. Returns ranges [first, count] of those of which only the dirty blocks need
    be read, as their other ones are what the journal says.

    A bitmap counts from the last pass that became complete. What a later, abandoned pass wrote was changed since then as well, so it
    is dirty in that bitmap too, and is looked at again.
    """
    if dirty is None or not journal.facts.get("complete"):
        return []
    changed = within(dirty)
    journal.restore(group for group in sorted(journal.known) if not changed(group))
    return ranges(sorted(journal.known))


def take_over(journal: Journal, directory: str, base: str, length: int, below: str) -> None:
    """What the copy `base` brought is shown by an image that lies on it: its digests are known here too. `below`: the backing file, where
    that is told. Raises Trouble."""
    what = f"copy {base}"
    if not os.path.exists(journal_path(directory, base)):
        raise Trouble("base", what, "there is no journal of it", "copy without it: everything is compared then")
    with contextlib.closing(Journal(directory, base)) as known:
        facts = known.facts
        if facts.get("state") != "proved" or places.identity(below or facts["location"]) != facts["identity"]:
            raise Trouble("base", what, "it is not complete, or its image is not what lies below",
                          "copy without it: everything is compared then")  # fmt: skip
        # The last group of a disk that was made larger since then is another one.
        journal.take_over(
            known, groups_in(length) if facts["length"] == length else min(facts["length"], length) // GROUP
        )
