"""A lab of real hosts on one machine, and the witness of what happens on it. It shares no code with ferryman."""

from lab.host import Host, Lab, load
from lab.lifecycle import down, up

__all__ = ["Host", "Lab", "down", "load", "up"]
