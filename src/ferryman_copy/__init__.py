"""The disk copy engine. It runs on the hosts, as a zipapp under their own Python, and needs libnbd and zstandard there; it imports
nothing of ferryman. Start reading in sender.py and receiver.py; endpoint.py is how they are spoken to."""
