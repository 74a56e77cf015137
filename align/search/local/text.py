"""Full text of the captions: BM25 of words, and of trigrams in scripts that write no spaces.

A query is cut into words. A word of Chinese, Japanese, Korean, Thai, Lao, Khmer, Burmese or Tibetan script, or of
signs, is looked for anywhere in a text: by its trigrams, or by LIKE below three characters. A sample's score is the
sum over the query's words (Robertson and Zaragoza 2009; k1 = 1.2, b = .75, as SQLite's FTS5 has them).
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from align.search.local.filters import Condition

WORDS = 64  # words of a query that are read
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u0f00-\u109f\u1100-\u11ff\u1780-\u17ff\u2600-\u27bf\u3005-\u3007\u3031-\u312f\u3130-\u318f"
    "\u31a0-\u31ff\u3400-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\U0001f000-\U0003ffff]+"
)

BETWEEN = re.compile(r"""[\s!"#$%&()*+,/:;<=>?@\[\]\\^`{|}~]+""")  # not ' - . _, which join the parts of a word


def normalize(text: str) -> str:
    """Return a text with one form of equal characters (NFKC): full-width letters and half-width kana among them."""
    text = text.encode("utf-8", "replace").decode().replace("\0", " ")
    return unicodedata.normalize("NFKC", text)


def has_unspaced(text: str) -> bool:
    """Return True where a text has words that only a search for parts finds."""
    return UNSPACED.search(text) is not None


def split_query(text: str) -> tuple[list[str], list[str]]:
    """Return the spaced words of a query, and its runs of characters in scripts without spaces."""
    text = normalize(text)
    words = filter(None, BETWEEN.split(UNSPACED.sub(" ", text)))
    return list(dict.fromkeys(words))[:WORDS], list(dict.fromkeys(UNSPACED.findall(text)))[:WORDS]


def find(connection: sqlite3.Connection, text: str, k: int, passed: Condition | None = None) -> tuple[Tensor, Tensor]:
    """Return the scores (m,) and the samples (m,), best first, m <= k. Among equal scores the lower number is first."""
    words, runs = split_query(text)
    grams = [run[i : i + 3] for run in runs for i in range(len(run) - 2)][: 4 * WORDS]
    parts: list[Condition] = []
    if words:
        parts.append(_match("words", words))
    if grams:
        parts.append(_match("grams", grams))
    parts += [_like(connection, run) for run in runs if len(run) < 3]
    if not parts or k < 1:
        return torch.empty(0), torch.empty(0, dtype=torch.long)
    values: list[Any] = [value for part in parts for value in part.values]
    sql = f"SELECT number, sum(score) AS total FROM ({' UNION ALL '.join(part.sql for part in parts)})"
    if passed is not None:  # the plus keeps SQLite from a full text search for each number
        sql += f" WHERE +number IN (SELECT items.number FROM items WHERE {passed.sql})"
        values += passed.values
    found = connection.execute(f"{sql} GROUP BY number ORDER BY total DESC, number LIMIT ?", [*values, k]).fetchall()
    scores = torch.tensor([score for _, score in found], dtype=torch.float32)
    return scores, torch.tensor([number for number, _ in found], dtype=torch.long)


def _match(table: str, terms: Sequence[str]) -> Condition:
    quoted = " OR ".join('"' + term.replace('"', '""') + '"' for term in dict.fromkeys(terms))
    return Condition(f"SELECT rowid AS number, -rank AS score FROM {table} WHERE {table} MATCH ?", [quoted])


def _like(connection: sqlite3.Connection, run: str) -> Condition:
    """Return the samples whose text has a run of one or two characters, scored as FTS5 scores a word."""
    escaped = re.sub(r"([%_\\])", r"\\\1", run)
    every, length = connection.execute("SELECT count(*), avg(length(text)) FROM items WHERE text NOT NULL").fetchone()
    like = r"text LIKE ? ESCAPE '\'"
    found = connection.execute(f"SELECT count(*) FROM items WHERE {like}", [f"%{escaped}%"]).fetchone()[0]
    weight = max(1e-6, float(torch.log(torch.tensor((every - found + 0.5) / (found + 0.5)))))
    often = "(length(text) - length(replace(text, ?, ''))) / ?"
    sql = (
        f"SELECT number, ? * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * size / ?)) AS score FROM"
        f" (SELECT number, max(1.0, {often}) AS often, length(text) AS size FROM items WHERE {like})"
    )
    return Condition(sql, [weight, length or 1.0, run, float(len(run)), f"%{escaped}%"])
