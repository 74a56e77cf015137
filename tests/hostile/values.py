"""Values out of bounds or of the wrong type, and texts that are not what they seem."""

from __future__ import annotations

import json
from typing import Any

from hostile.bodies import EMBED, SEARCH
from hostile.request import EITHER, REFUSED, Hostile, ask, post, uri

CLASSIFY = "/v1/classify"
GOOD = {"query": "red", "of": "image"}
FEW = {"modality": "image", "data": uri(b"no picture"), "classes": ["red", "blue"]}


def values() -> list[Hostile]:
    """Return bodies of good JSON whose values are out of bounds or of the wrong type."""
    kind = "values"
    for_k = [10**9, 0, -1, True, 1.5, "20", [], {}, 10**300, -(2**63)]
    deep_filter: Any = {"label": "red"}
    for _ in range(600):
        deep_filter = {"not": deep_filter}
    filters = {
        "nested 600 times": deep_filter,
        "of 5,000 conditions": {"any": [{"year": i} for i in range(5000)]},
        "of 2,000 values": {"year": {"in": list(range(2000))}},
        "a regular expression": {"label": {"regex": "(a+)+$"}},
        "a pattern": {"label": {"like": "%" * 5000}},
        "a pattern of SQL": {"label": "' OR 1=1; DROP TABLE items; --"},
        "a key of SQL": {"a') OR 1=1 --": 1},
        "a key of 5,000 letters": {"a" * 5000: 1},
        "a key with NUL": {"a\0b": 1},
        "a key of half a character": {"\ud800": 1},
        "a value of half a character": {"label": "\udfff"},
        "a value of 10^400": {"year": 10**400},
        "a value of 2 ** 64": {"year": {"gte": 2**64}},
        "an unknown operator": {"year": {"exec": "id"}},
        "where files lie": {"shard": {"exists": True}},
        "a folder above": {"folder": {"prefix": "/"}},
        "a key like a prototype": {"__proto__": {"a": 1}, "constructor.prototype": 1},
    }
    refused = (
        "of 5,000 conditions",
        "nested 600 times",
        "a regular expression",
        "an unknown operator",
        "where files lie",
        "a folder above",
        "a key of 5,000 letters",
    )
    wrong: dict[str, Any] = {
        "9 parts": {"of": "image", "parts": [{"modality": "text", "text": "a"}] * 9},
        "10^5 parts": {"of": "image", "parts": [{}] * 100_000},
        "a part of itself": {"of": "image", "parts": [{"modality": "text", "parts": []}]},
        "a part with a path": {"of": "image", "parts": [{"modality": "image", "file": "/etc/passwd"}]},
        "a part of an item that is none": {"of": "image", "parts": [{"modality": "image", "id": 2**62}]},
        "a weight of 10^300": {"of": "image", "parts": [{"modality": "text", "text": "a", "weight": 10**300}]},
        "a modality of a path": {"of": "../../etc", "query": "a"},
        "a modality of an attribute": {"of": "__class__", "query": "a"},
        "an unknown field": {**GOOD, "__class__": "x", "shell": "id"},
        "like 10^18": {"of": "image", "like": 10**18},
        "like a fraction": {"of": "image", "like": 0.5},
        "how as code": {**GOOD, "how": "__import__('os').system('id')"},
        "a text of 10^6": {"of": "image", "query": "a" * 1_000_000},
        "words of 10^5": {"of": "image", "text": "a " * 50_000},
        "a text that is a list": {"of": "image", "query": ["a"]},
    }
    classes: dict[str, Any] = {
        "10^5 classes": {"classes": [f"c{i}" for i in range(100_000)]},
        "one class": {"classes": ["a"]},
        "a class twice": {"classes": ["a", "a"]},
        "classes that are numbers": {"classes": [1, 2]},
        "classes in text": {"classes": "[" * 50_000},
        "classes in a long text": {"classes": "a," * 300_000},
        "a class of 10^6": {"classes": ["a" * 1_000_000, "b"]},
        "33 templates": {"templates": ["{}"] * 33},
        "a template that formats": {"templates": ["{0.__class__.__mro__}"]},
        "a template of 10^9 spaces": {"templates": ["{:1000000000}"]},
        "a template with a percent sign": {"templates": ["%s%n{}{}"]},
    }
    embed: dict[str, Any] = {
        "10^5 inputs": {"input": ["a"] * 100_000},
        "tokens": {"input": [[1, 2, 3]]},
        "no input": {"input": []},
        "dimensions of 10^9": {"input": "a", "dimensions": 10**9},
        "dimensions of 0": {"input": "a", "dimensions": 0},
        "another model": {"input": "a", "model": "../../etc/passwd"},
        "another format": {"input": "a", "encoding_format": "pickle"},
        "two modalities in one": {"input": {"text": "a", "image": "b"}},
        "a text of 10^6": {"input": "a" * 1_000_000},
    }
    texts = {
        "right to left": "\u202ered\u202c",
        "zero width": "r\u200be\u200bd\ufeff",
        "of 4 bytes": "😀" * 900,
        "marks above marks": "e" + "\u0301" * 3000,
        "a half": "red \ud800",
        "the other half": "\udc00",
        "NUL": "r\0d",
        "controls": "".join(map(chr, range(32))),
        "tags": "".join(chr(0xE0000 + i) for i in range(128)),
        "a ligature that grows": "\ufdfa" * 3000,
        "no character": "\uffff\U0010ffff",
        "spaces": " " * 3999,
        "full text that is a query": 'label:a* OR NEAR(a b, 5) AND NOT "',
        "full text with quotes": '"' * 3999,
        "a formula": "=cmd|'/c calc'!A1",
        "mojibake": "Ã¢â‚¬â„¢" * 400,
        "letters that fold": "ẞ" * 3000,
        "dotless": "İ" * 3000,
    }
    return [
        *(ask(kind, f"k = {str(k)[:20]}", SEARCH, {**GOOD, "k": k}) for k in for_k),
        *(
            ask(kind, f"a filter {name}", SEARCH, {**GOOD, "where": one}, fits=REFUSED if name in refused else EITHER)
            for name, one in filters.items()
        ),
        *(ask(kind, name, SEARCH, one) for name, one in wrong.items()),
        *(ask(kind, name, CLASSIFY, {**FEW, **one}) for name, one in classes.items()),
        *(ask(kind, f"inputs: {name}", EMBED, one) for name, one in embed.items()),
        post(kind, "a text of 10 MB", EMBED, lambda: json.dumps({"input": "a" * 10_000_000}).encode()),
        *(
            ask("texts", f"a text: {name}", SEARCH, {"query": one, "of": "image", "text": one}, fits=EITHER)
            for name, one in texts.items()
        ),
    ]
