"""What the zipapp runs: one endpoint, spoken to by lines on its standard input."""

from ferryman_copy.endpoint import main

if __name__ == "__main__":
    raise SystemExit(main())
