"""Segments that a change is writing: one of each modality grows, others are complete."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import final

from align.files import sync_folder
from align.search.local.segments import FOLDER, ROWS, Writer, path_of


@final
class GrowingSegments:
    """Segments that a change is writing, with their entries in its transaction."""

    def __init__(self, folder: Path, connection: sqlite3.Connection):
        self.folder = folder
        self.connection = connection
        self._writers: dict[int, tuple[int, Writer]] = {}  # modality's number -> segment's number, its writer
        self._finished: list[Path] = []

    def grow(self, modality: int, first: int, dim: int, *, half: bool) -> Writer:
        """Return the segment of a modality that goes on with sample `first`: rows ascend inside a segment.

        modality: its number. dim, half: of a new segment's rows.
        """
        if modality in self._writers:
            segment, writer = self._writers[modality]
            if writer.rows < ROWS and writer.last <= first:
                return writer
            self._close_one(modality)
        sql = "INSERT INTO segments (modality, rows, bytes, sha256) VALUES (?, 0, 0, '')"
        segment = self.connection.execute(sql, (modality,)).lastrowid
        assert segment is not None
        os.makedirs(self.folder / FOLDER, exist_ok=True)
        writer = Writer(path_of(self.folder, segment), dim, half=half)
        self._writers[modality] = segment, writer
        return writer

    def close(self) -> None:
        """Complete the segments that grow, with their sizes and hashes."""
        for modality in list(self._writers):
            self._close_one(modality)

    def finish(self) -> None:
        """Complete all segments, and wait until the disk has their names."""
        self.close()
        if self._finished:
            sync_folder(self.folder / FOLDER)

    def discard(self) -> None:
        """Remove the segments that were written."""
        for _, writer in self._writers.values():
            writer.discard()
        for path in self._finished:
            path.unlink(missing_ok=True)

    def _close_one(self, modality: int) -> None:
        segment, writer = self._writers[modality]
        size, digest = writer.close()
        del self._writers[modality]
        self._finished.append(writer.path)
        sql = "UPDATE segments SET rows = ?, bytes = ?, sha256 = ? WHERE id = ?"
        self.connection.execute(sql, (writer.rows, size, digest, segment))
