"""From a planned sample to the members that a shard gets: read, and re-encoded where that is asked for."""

from __future__ import annotations

from typing import Any, Protocol

from align.data.making.clouds import Sampling, converted, judged
from align.data.making.job import Made
from align.data.making.recode import Recode
from align.data.meta import read_meta
from align.data.names import FOREIGN, modalities
from align.data.shards import Shards
from align.values import BadSample


class Readable(Protocol):
    """An item whose bytes are read from where it says, or from opened shards."""

    @property
    def key(self) -> str: ...
    def read(self, shards: Any) -> Made: ...


def prepare(state: tuple[Shards | None, Recode, Sampling], item: Readable) -> Made:
    """(what a planned sample becomes, (reason, member, …) of what was bad or noted); empty where no modality is left.

    Arrays and clouds are judged as a check would judge them.
    """
    shards, recode, sampling = state
    members, bad = item.read(shards)
    out: dict[str, bytes] = {}
    for name, data in members.items():
        try:
            new, content, said = converted(item.key, name, data, sampling)
            content, more = judged(new, content)
            new, content = recode(new, content)
        except BadSample as error:
            bad.append((error.reason, name, error.detail))
            continue
        if new in out:
            bad.append(("shard/duplicate-member", name))
            continue
        bad += said + more
        out[new] = content
    if "json" in out and (wrong := read_meta(out, {})[1]):
        raise ValueError(f"the json of sample {item.key!r} has {', '.join(wrong)}: label or weight cannot be read back")
    return (out if modalities(out, FOREIGN) else {}), bad
