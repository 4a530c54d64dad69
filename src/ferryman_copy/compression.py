"""Whether to pack what is sent."""

import zstandard


class Compression:
    """One worker's choice, made anew for each piece."""

    def __init__(self, wish: str) -> None:
        self._packer = zstandard.ZstdCompressor(level=1) if wish != "off" else None

    def pack(self, body: memoryview) -> bytes | None:
        """The packed bytes; None when it is better to send them as they are."""
        if self._packer is None:
            return None
        packed = self._packer.compress(body)
        return packed if len(packed) < len(body) * 15 // 16 else None

    def note(self, size: int, seconds: float) -> None:
        """So many bytes took so long to send."""
