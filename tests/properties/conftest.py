"""The same examples every time, so that a run is red or green for what was changed; `./dev test --all` draws new ones."""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True)
if "FERRYMAN_NEW_EXAMPLES" not in os.environ:
    settings.load_profile("same")
