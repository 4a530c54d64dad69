"""The program that guests run, and the initrd it boots from."""
