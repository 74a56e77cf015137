"""A sample that is to be written: its key, and members whose bytes are read when their turn comes."""

from __future__ import annotations

from typing import NamedTuple

from align.curation.jobs.job import Fault, Made
from align.curation.members.files import Member
from align.data.archive.tar import room
from align.data.rows import explain
from align.media.medium import Stored
from align.values import BadSample


class Planned(NamedTuple):
    """A sample to write."""

    key: str
    members: list[Member]

    @property
    def mark(self) -> str:
        """Text that tells this sample from another without reading its files."""
        return "\n".join([self.key, *(f"{member.name} {member.mark}" for member in self.members)])

    @property
    def size(self) -> int:
        """Bytes that it takes in a tar."""
        return sum(room(member.size) for member in self.members)

    def read(self, shards: object = None) -> Made:
        """Read its members' bytes, and (reason, member, detail) of those that cannot be had or that have a note."""
        found: dict[str, bytes] = {}
        bad: list[Fault] = []
        for name, read, _, _ in self.members:
            try:
                content = read()
            except BadSample as error:
                bad.append((explain(error, name.partition(".")[0]), name, error.detail))
                continue
            if isinstance(content, Stored):
                bad += [(reason, name, detail) for reason, detail in content.notes]
                content = content.data
            found[name] = content
        return found, bad
