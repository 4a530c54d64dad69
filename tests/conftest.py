"""The same examples every time, so that a run is red or green for what was changed; `./dev test --all` draws new ones.

No example has a time limit: a busy machine is no fault of the code.
"""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("new", deadline=None)
settings.load_profile("new" if "FERRYMAN_NEW_EXAMPLES" in os.environ else "same")
