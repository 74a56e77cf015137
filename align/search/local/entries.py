"""Items as rows of the tables: written, removed and read."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from align.files import json_text
from align.search.item import Item
from align.search.leaves import kind_of, list_leaves, plain
from align.search.local import text
from align.search.local.filters import KINDS

MANY = 500  # numbers a statement


class Entries:
    """The writer of items, inside a transaction of `connection`."""

    def __init__(self, connection: sqlite3.Connection):
        self.connection = connection
        self._places: dict[str, int] = {}
        self._keys: dict[str, int] = {}

    def put(self, item: Item) -> tuple[int, bool]:
        """Return the number of an item, and True where it was not there and has been written.

        Raises TypeError for a json or a label that JSON cannot hold.
        """
        key, place = str(plain(item.key)), self._place(item)
        found = self.connection.execute("SELECT number FROM items WHERE key = ? AND place = ?", (key, place)).fetchone()
        if found:
            return found[0], False
        captions, body, line = _pack(item)
        number = self.connection.execute(
            "INSERT INTO items (place, key, captions, body, text, sum) VALUES (?, ?, ?, ?, ?, ?)",
            (place, key, captions, body, part := pick_spaceless(item), _sum(captions, body)),
        ).lastrowid
        assert number is not None
        if line:
            self.connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (number, line))
        if part:
            self.connection.execute("INSERT INTO grams (rowid, text) VALUES (?, ?)", (number, line))
        self.connection.executemany("INSERT OR IGNORE INTO leaves VALUES (?, ?, ?, ?, ?)", self._leaves(item, number))
        return number, True

    def drop(self, numbers: Sequence[int]) -> None:
        """Remove items that are there, with their words and values."""
        execute = self.connection.execute
        for number, item in zip(numbers, read_items(self.connection, numbers), strict=True):
            line = _line(item)
            for table, there in (("words", bool(line)), ("grams", text.has_unspaced(line))):
                if there:
                    execute(f"INSERT INTO {table} ({table}, rowid, text) VALUES ('delete', ?, ?)", (number, line))
            self.connection.executemany(
                "DELETE FROM leaves WHERE key = ? AND kind = ? AND value = ? AND listed = ? AND number = ?",
                self._leaves(item, number),
            )
            execute("DELETE FROM items WHERE number = ?", (number,))

    def _leaves(self, item: Item, number: int) -> Iterator[tuple[int, int, Any, int, int]]:
        for leaf in list_leaves(item):
            yield self._key(leaf.key), KINDS[kind_of(leaf.value)], leaf.value, int(leaf.listed), number

    def _place(self, item: Item) -> int:
        name = f"{'s' if item.source.get('shard') else 'f'}{plain(item.place)}"
        if name not in self._places:
            self._places[name] = self._id("places", name)
        return self._places[name]

    def _key(self, name: str) -> int:
        if name not in self._keys:
            self._keys[name] = self._id("keys", name)
        return self._keys[name]

    def _id(self, table: str, name: str) -> int:
        self.connection.execute(f"INSERT INTO {table} (name) VALUES (?) ON CONFLICT DO NOTHING", (name,))
        return self.connection.execute(f"SELECT id FROM {table} WHERE name = ?", (name,)).fetchone()[0]


def read_items(connection: sqlite3.Connection, numbers: Iterable[int]) -> list[Item]:
    """Return the items with these numbers.

    Raises KeyError for a number that is not there, ValueError for an item whose checksum is not its own.
    """
    wanted = [int(number) for number in numbers]
    found: dict[int, Item] = {}
    for start in range(0, len(wanted), MANY):
        some = wanted[start : start + MANY]
        for number, place, key, captions, body, total in connection.execute(
            f"SELECT number, name, key, captions, body, sum FROM items JOIN places ON places.id = place"
            f" WHERE number IN ({', '.join('?' for _ in some)})",
            some,
        ):
            if total != _sum(captions, body):
                raise ValueError(f"the entry of sample {number} is damaged: its checksum differs; make the index anew")
            found[number] = _unpack(place, key, captions, body)
    for number in wanted:
        if number not in found:
            raise KeyError(f"no sample {number} in the index")
    return [found[number] for number in wanted]


def _pack(item: Item) -> tuple[str, str, str]:
    """Return an item's captions and the rest of it as JSON, and its text as it is searched."""
    body: dict[str, Any] = {"json": item.json} if item.json else {}
    if item.source != {"shard": plain(item.place), "key": plain(item.key)}:
        body["source"] = dict(item.source)
    if plain(item.key) != item.key:
        body["key"] = item.key
    if item.label is not None:
        body["label"] = item.label
    try:
        return json_text(list(item.captions)), json_text(body), _line(item)
    except TypeError as error:
        raise TypeError(f"the item {item.key!r} holds something that JSON cannot: {error}") from None


def pick_spaceless(item: Item) -> str | None:
    """Return an item's text where it is searched for parts of words too, else None."""
    line = _line(item)
    return line if text.has_unspaced(line) else None


def _line(item: Item) -> str:
    return text.normalize("\n".join(item.captions))


def _unpack(place: str, key: str, captions: str, body: str) -> Item:
    rest = json.loads(body)
    source = rest.get("source") or {"shard": place[1:], "key": key}
    return Item(rest.get("key", key), source, json.loads(captions), rest.get("label"), rest.get("json", {}))


def _sum(captions: str, body: str) -> bytes:
    return hashlib.sha256(f"{captions}\n{body}".encode()).digest()[:8]
