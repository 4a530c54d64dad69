"""The witness's TCP client: connects once, reads counts, writes down when each came. Runs as a process of its own."""

import socket
import struct
import sys
import time

ROW = struct.Struct("<dQQ")  # time, first and last count of what one read brought


def main(address: str, port: str, path: str) -> None:
    """Read until ended. A row for each read; a connection that breaks is opened again, marked by a row of zero counts."""
    with open(path, "wb", buffering=0) as record:
        while True:
            try:
                with socket.create_connection((address, int(port)), 5) as connection:
                    connection.settimeout(None)
                    record.write(ROW.pack(time.time(), 0, 0))
                    read_counts(connection, record)
            except OSError:
                time.sleep(0.1)


def read_counts(connection: socket.socket, record: "object") -> None:
    """One connection to its end. A row is written for each unbroken run of counts, so that lost or repeated ones show."""
    rest = b""
    while data := connection.recv(65536):
        now = time.time()
        *lines, rest = (rest + data).split(b"\n")
        numbers = [int(line) for line in lines]
        while numbers:
            length = 1
            while length < len(numbers) and numbers[length] == numbers[0] + length:
                length += 1
            record.write(ROW.pack(now, numbers[0], numbers[length - 1]))  # type: ignore[attr-defined]
            numbers = numbers[length:]


if __name__ == "__main__":
    main(*sys.argv[1:])
