"""libvirt: the only place where it is imported. hypervisor.py is one host, between.py what needs two."""
