"""Bodies whose JSON is wrong, deep or long."""

from __future__ import annotations

from collections.abc import Callable

from hostile.request import Hostile, post, uri

SEARCH, EMBED, CLASSIFY = "/v1/search", "/v1/embeddings", "/v1/classify"
GOOD = {"query": "red", "of": "image"}
FEW = {"modality": "image", "data": uri(b"no picture"), "classes": ["red", "blue"]}


def jsons() -> list[Hostile]:
    """Return bodies whose JSON is wrong, deep or long."""
    deep = 100_000
    wrong: dict[str, Callable[[], bytes] | bytes] = {
        "lists in 10^5 lists": b"[" * deep + b"]" * deep,
        "10^5 lists without end": b"[" * deep,
        "objects in 10^5 objects": b'{"a":' * deep + b"1" + b"}" * deep,
        "a filter in 10^5 filters": b'{"query": "a", "of": "image", "where":'
        + b'{"not":' * deep
        + b"{}"
        + b"}" * deep
        + b"}",
        "10^6 values": lambda: b'{"input": [' + b"1," * 1_000_000 + b"1]}",
        "10^6 names": lambda: b"{" + b",".join(b'"%d":1' % i for i in range(300_000)) + b"}",
        "names that collide": lambda: b"{" + b",".join(b'"%d":1' % (i * (2**61 - 1)) for i in range(9_000)) + b"}",
        "a name twice": b'{"query": "a", "query": "b", "of": "image"}',
        "NaN": b'{"query": "a", "of": "image", "threshold": NaN}',
        "Infinity": b'{"query": "a", "of": "image", "threshold": -Infinity}',
        "1e999": b'{"query": "a", "of": "image", "threshold": 1e999}',
        "10^5 digits": b'{"query": "a", "of": "image", "k": ' + b"9" * deep + b"}",
        "10^6 digits behind the point": b'{"query": "a", "of": "image", "threshold": 0.'
        + b"9" * 1_000_000
        + b"1e9999}",
        "an exponent of 10^4 digits": b'{"query": "a", "of": "image", "threshold": 1e' + b"9" * 10_000 + b"}",
        "a comment": b'{"query": "a" /* b */, "of": "image"}',
        "a comma at the end": b'{"query": "a", "of": "image",}',
        "two bodies": b'{"query": "a", "of": "image"}{}',
        "a mark of order": b'\xef\xbb\xbf{"query": "a"}',
        "UTF-16": '{"query": "a"}'.encode("utf-16"),
        "UTF-32": '{"query": "a"}'.encode("utf-32"),
        "UTF-7": b"+AHsAIgBxACI-",
        "no UTF-8": b'{"query": "\xff\xfe", "of": "image"}',
        "half a character in bytes": b'{"query": "\xed\xa0\x80", "of": "image"}',
        "NUL": b'{"query": "a\0b", "of": "image"}',
        "NULs alone": bytes(1000),
        "nothing": b"",
        "spaces": b" " * 1_000_000,
        "null": b"null",
        "a string": b'"' + b"a" * 1_000_000 + b'"',
        "a pickle": b"cos\nsystem\n(S'id'\ntR.",
        "YAML": b"!!python/object/apply:os.system ['id']",
        "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "laughs": b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><a>&c;</a>',
    }
    kind = "JSON"
    return [post(kind, name, SEARCH if "values" not in name else EMBED, one) for name, one in wrong.items()]
