"""Every error ferryman raises, as one tree. The class says what was changed; the fields say what, why and what to do.

FerrymanError
├── Refused            nothing was changed
│   ├── BadInput       what was typed or configured cannot be used
│   ├── NotFound       no such host, guest or request
│   ├── Blocked        assess found blockers
│   ├── Busy           somebody else's job holds the guest
│   └── Vetoed         a hook of the operator's said no
├── Aborted            something was changed and put back
├── NeedsAttention     something was changed and could not be put back or finished: look
├── RecordsUnusable    the state directory cannot be read or written: what was under way stands still until it can
└── DriverError        a foreign error, translated; it says nothing of what changed, the workflow that catches it does
    ├── Unreachable    a host did not answer: what it does meanwhile is unknown
    ├── Timeout        it answers, but this call did not return in its bound: outcome unknown, go and ask
    ├── AlreadyRunning a job that is not ours runs on the guest
    ├── Insecure       certificates are missing, wrong or not trusted
    ├── NoWay          two hosts do not reach each other where they should
    ├── SourceChanged  a disk was written to while it was copied
    ├── Mismatch       what lies at the destination is not what the source sent
    ├── NoBitmap       what was written to a disk cannot be learned from the bitmap that was named: copy without it
    ├── NoBase         what an earlier copy brought is not known any more: copy without it
    └── Stopped        a copy was asked to end; what is done stays, and it goes on when it is asked for again
"""


class FerrymanError(Exception):
    """Facts and a sentence. `what` names the thing, `why` the reason, `remedy` what to do next (may be empty)."""

    exit_code = 1

    def __init__(self, what: str, why: str, remedy: str = "") -> None:
        super().__init__(what, why, remedy)  # args equal the parameters, so that a pickled error rebuilds
        self.what, self.why, self.remedy = what, why, remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.why}" + (f" ({self.remedy})" if self.remedy else "")


class Refused(FerrymanError):
    """Nothing was changed."""

    exit_code = 3


class BadInput(Refused):
    """What was typed or configured cannot be used."""


class NotFound(Refused):
    """No such host, guest or request."""


class Blocked(Refused):
    """Assess found blockers; they are in the records of the request."""


class Busy(Refused):
    """Somebody else's job holds the guest; it will end."""


class Vetoed(Refused):
    """A hook of the operator's said no."""


class Aborted(FerrymanError):
    """Something was changed and put back."""

    exit_code = 4


class NeedsAttention(FerrymanError):
    """Something was changed and neither put back nor finished."""

    exit_code = 5


class RecordsUnusable(FerrymanError):
    """The records cannot be read or written. Nothing of ours goes on without them; the hypervisors do."""

    exit_code = 5


class DriverError(FerrymanError):
    """A foreign error, translated once at the driver's edge."""

    exit_code = 3


class Unreachable(DriverError):
    """A host did not answer within its bound."""


class Timeout(DriverError):
    """The call did not return within its bound; the host answers otherwise."""


class AlreadyRunning(DriverError):
    """A job that is not ours runs on the guest."""


class Insecure(DriverError):
    """Certificates are missing, wrong or not trusted."""


class NoWay(DriverError):
    """Two hosts do not reach each other where they should."""


class SourceChanged(DriverError):
    """A disk was written to while it was copied."""


class Mismatch(DriverError):
    """What lies at the destination is not what the source sent."""


class NoBitmap(DriverError):
    """The bitmap that a copy was to go by is not there, or not to be relied on; without it everything is compared."""


class NoBase(DriverError):
    """What the copy that another was to stand upon has brought is not known any more; without it everything is compared."""


class Stopped(DriverError):
    """A copy was asked to end; what is done stays, and it goes on when it is asked for again."""

    exit_code = 4
