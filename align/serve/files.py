"""Files of items, on their way to a browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor

from align.media.medium import Face
from align.search.item import Item
from align.serve.batching import as_row
from align.serve.channel import Shown
from align.serve.decoding import Task
from align.serve.kinds import HEAD, OPAQUE, media_type, shown_type
from align.serve.loaded import Loaded
from align.serve.members import Member, Slice, file_name, of_bytes, of_member
from align.serve.readers import Readers
from align.serve.refusal import Refusal, suggest

Form = Literal["original", "shown"]


@final
@dataclass(frozen=True)
class Delivery:
    """A file on its way to a browser. name: for the visitor's disk. inline: it may be shown, not only saved."""

    content: Slice
    type: str
    name: str
    inline: bool


async def deliver(
    loaded: Loaded, readers: Readers, number: int, modality: str, row: int, *, member: str | None, form: Form
) -> Delivery:
    """Return a file of an item.

    form: "original", as it is stored, or "shown", in a form that browsers show. That is the file itself, else a
    picture of WebP or a sound of FLAC. Other media are shown by their face, and come as they are stored.
    member: its member name, in place of modality and row. Raises Refusal.
    """
    item, one = await readers.run(lambda: _find(loaded, number, modality, row, member))
    name, content = file_name(item, one), of_member(one)
    if form == "original":
        type = media_type(one.suffix)
        return Delivery(content, type, name, inline=type != OPAQUE)
    head = await readers.run(lambda: b"".join(content.read(0, min(HEAD, content.size))))
    if type := shown_type(head, one.suffix):
        return Delivery(content, type, name, inline=True)
    shown: Shown | None = await loaded.decoders.decode(await _make_task("shown", one, content, readers))
    if shown is None:
        return Delivery(content, media_type(one.suffix), name, inline=False)
    return Delivery(of_bytes(shown.data), shown.type, name, inline=True)


async def draw(loaded: Loaded, readers: Readers, number: int, modality: str, row: int) -> Face | None:
    """Return the face of a file of an item, or None for one that cannot be shown. Raises Refusal."""
    _, one = await readers.run(lambda: _find(loaded, number, modality, row, None))
    content = of_member(one)
    key = (content.tag, one.modality)
    if (kept := loaded.faces.get(key)) is not None:
        return kept
    face: Face | None = await loaded.decoders.decode(await _make_task("face", one, content, readers))
    if face is not None:
        loaded.faces.put(key, face)
    return face


async def read_row(loaded: Loaded, readers: Readers, number: int, modality: str, row: int) -> Tensor:
    """Return a file of an item as its tower's preprocess reads it, before ``collate``. Raises Refusal."""
    _, one = await readers.run(lambda: _find(loaded, number, modality, row, None))
    return as_row(await loaded.decoders.decode(await _make_task("row", one, of_member(one), readers)))


def list_files(loaded: Loaded, item: Item) -> list[Member]:
    """Return the files of an item, none where they are not at hand."""
    try:
        return loaded.members.list_members(item)
    except Refusal:
        return []


def _find(loaded: Loaded, number: int, modality: str, row: int, member: str | None) -> tuple[Item, Member]:
    item = loaded.find_item(number)
    found = loaded.members.list_members(item)
    for one in found:
        if (one.modality, one.row) == (modality, row) if member is None else one.name == member:
            return item, one
    names = [one.name for one in found] if member else list(dict.fromkeys(one.modality for one in found))
    wanted = member or (modality if row == 0 else f"{modality} {row}")
    raise Refusal(404, f"item {number} has no {wanted[:60]!r}; {suggest(wanted, names)}", code="no_such_file")


async def _make_task(kind: str, member: Member, content: Slice, readers: Readers) -> Task:
    if member.size < 0:  # a file of its own, which may have others beside it
        return Task(kind, member.modality, member.suffix, member.path)
    data = await readers.run(lambda: b"".join(content.read()))
    return Task(kind, member.modality, member.suffix, data)
