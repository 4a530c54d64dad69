"""The records of this machine: schema.py says what is kept, records.py reads and writes it."""
