"""libvirt: the only place where it is imported. hypervisor.py is one host, between.py what needs two."""

import os

# Its client writes warnings to the terminal by itself, such as a guest "probably left in 'paused' state": what matters is raised.
os.environ.setdefault("LIBVIRT_DEBUG", "error")
