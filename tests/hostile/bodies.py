"""Bodies: JSON that is deep, long or wrong, values out of bounds, and texts that are not what they seem."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from hostile.request import ANSWERED, EITHER, FORM, REFUSED, Hostile, ask, part, post, uri

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
        "a filter in 10^5 filters": b'{"query": "a", "of": "image", "where":' + b'{"not":' * deep + b"{}" + b"}" * deep + b"}",
        "10^6 values": lambda: b'{"input": [' + b"1," * 1_000_000 + b"1]}",
        "10^6 names": lambda: b"{" + b",".join(b'"%d":1' % i for i in range(300_000)) + b"}",
        "names that collide": lambda: b"{" + b",".join(b'"%d":1' % (i * (2**61 - 1)) for i in range(9_000)) + b"}",
        "a name twice": b'{"query": "a", "query": "b", "of": "image"}',
        "NaN": b'{"query": "a", "of": "image", "threshold": NaN}',
        "Infinity": b'{"query": "a", "of": "image", "threshold": -Infinity}',
        "1e999": b'{"query": "a", "of": "image", "threshold": 1e999}',
        "10^5 digits": b'{"query": "a", "of": "image", "k": ' + b"9" * deep + b"}",
        "10^6 digits behind the point": b'{"query": "a", "of": "image", "threshold": 0.' + b"9" * 1_000_000 + b"1e9999}",
        "an exponent of 10^4 digits": b'{"query": "a", "of": "image", "threshold": 1e' + b"9" * 10_000 + b"}",
        "a comment": b'{"query": "a" /* b */, "of": "image"}',
        "a comma at the end": b'{"query": "a", "of": "image",}',
        "two bodies": b'{"query": "a", "of": "image"}{}',
        "a mark of order": b'\xef\xbb\xbf{"query": "a"}',
        "UTF-16": '{"query": "a"}'.encode("utf-16"),
        "UTF-32": '{"query": "a"}'.encode("utf-32"),
        "UTF-7": b'+AHsAIgBxACI-',
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
    }  # fmt: skip
    kind = "JSON"
    return [post(kind, name, SEARCH if "values" not in name else EMBED, one) for name, one in wrong.items()]


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
    refused = ("of 5,000 conditions", "nested 600 times", "a regular expression", "an unknown operator", "where files lie",
               "a folder above", "a key of 5,000 letters")  # fmt: skip
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
        "right to left": "\u202ered\u202c", "zero width": "r\u200be\u200bd\ufeff", "of 4 bytes": "😀" * 900,
        "marks above marks": "e" + "\u0301" * 3000, "a half": "red \ud800", "the other half": "\udc00", "NUL": "r\0d",
        "controls": "".join(map(chr, range(32))), "tags": "".join(chr(0xE0000 + i) for i in range(128)),
        "a ligature that grows": "\ufdfa" * 3000, "no character": "\uffff\U0010ffff", "spaces": " " * 3999,
        "full text that is a query": 'label:a* OR NEAR(a b, 5) AND NOT "', "full text with quotes": '"' * 3999,
        "a formula": "=cmd|'/c calc'!A1", "mojibake": "Ã¢â‚¬â„¢" * 400, "letters that fold": "ẞ" * 3000, "dotless": "İ" * 3000,
    }  # fmt: skip
    return [
        *(ask(kind, f"k = {str(k)[:20]}", SEARCH, {**GOOD, "k": k}) for k in for_k),
        *(ask(kind, f"a filter {name}", SEARCH, {**GOOD, "where": one}, fits=REFUSED if name in refused else EITHER)
          for name, one in filters.items()),
        *(ask(kind, name, SEARCH, one) for name, one in wrong.items()),
        *(ask(kind, name, CLASSIFY, {**FEW, **one}) for name, one in classes.items()),
        *(ask(kind, f"inputs: {name}", EMBED, one) for name, one in embed.items()),
        post(kind, "a text of 10 MB", EMBED, lambda: json.dumps({"input": "a" * 10_000_000}).encode()),
        *(ask("texts", f"a text: {name}", SEARCH, {"query": one, "of": "image", "text": one}, fits=EITHER)
          for name, one in texts.items()),
    ]  # fmt: skip


def forms() -> list[Hostile]:
    """Return forms: too many parts, names that lead elsewhere, and forms that are cut or nested."""
    kind, end = "forms", b"--b--\r\n"
    text = part('name="of"', b"image") + part('name="query"', b"red")
    picture = b"no picture"
    names = {
        "a traversal": 'filename="../../../../etc/passwd"', "NUL": 'filename="a\0b.png"', "a line's end": 'filename="a\\r\\nb"',
        "another character set": "filename*=UTF-8''..%2f..%2fetc%2fpasswd", "an unknown set": "filename*=idna''%ff",
        "10^4 letters": f'filename="{"a" * 10_000}.png"', "no end": 'filename="a', "a suffix of a mesh": 'filename="a.obj"',
    }  # fmt: skip
    bodies: dict[str, bytes] = {
        "2,000 fields": b"".join(part(f'name="f{i}"', b"x") for i in range(2000)) + end,
        "2,000 files": b"".join(part(f'name="f{i}"; filename="a"', b"x") for i in range(2000)) + end,
        "9 files": text + b"".join(part(f'name="image{i}"; filename="a.png"', picture) for i in range(9)) + end,
        "a file twice": text + part('name="image"; filename="a"', picture) * 2 + end,
        "a field of 1 MB": part('name="query"', b"a" * (1 << 20)) + end,
        "a name of 1 MB": part(f'name="{"a" * (1 << 20)}"', b"x") + end,
        "2,000 headers": part('name="query"', b"a", *(f"X-{i}: a" for i in range(2000))) + end,
        "a header of 1 MB": part('name="query"', b"a", "X-A: " + "a" * (1 << 20)) + end,
        "a form in a form": part('name="a"', part('name="query"', b"x") + end, "Content-Type: " + FORM) + end,
        "no name": part('filename="a"', b"x") + end,
        "no end": text,
        "no line's end": b"--b\r\nContent-Disposition: form-data",
        "boundaries alone": b"--b\r\n" * 20_000,
        "dashes": b"-" * 1_000_000,
        "nothing": b"",
        "parts as JSON, deep": part('name="parts"', b"[" * 60_000) + end,
        "a part that names no file": part('name="parts"', b'[{"modality":"image","file":"/etc/passwd"}]') + end,
        "a field like a prototype": part('name="__proto__"', b"x") + end,
        "base64 of a part": part('name="query"', b"cmVk", "Content-Transfer-Encoding: base64") + end,
    }
    types = ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 5000,
             "multipart/form-data; boundary=b; charset=undefined", 'multipart/form-data; boundary="b', "multipart/mixed; boundary=b",
             "multipart/form-data; boundary=b; boundary=c", "multipart/form-data; boundary=\\x00"]  # fmt: skip
    plain = "application/x-www-form-urlencoded"
    page = part('name="chosen"', b"1:1") * 500 + end
    return [
        *(post(kind, name, SEARCH, one, FORM) for name, one in bodies.items()),
        *(post(kind, f"type {one[20:50]}", SEARCH, text + end, one, fits=EITHER) for one in types),
        *(post(kind, f"a file's name: {name}", SEARCH, text + part(f'name="image"; {one}', picture) + end, FORM, fits=EITHER)
          for name, one in names.items()),
        post(kind, "10^5 fields without files", SEARCH, b"a=b&" * 100_000, plain),
        post(kind, "escapes by the megabyte", SEARCH, b"query=" + b"%20" * 300_000, plain),
        post(kind, "escapes that are none", SEARCH, b"query=%zz%ff&of=image", plain, fits=EITHER),
        post(kind, "a page's form of 500 fields", "/take", page, FORM, fits=EITHER),
        post(kind, "a page's choice of 10^300", "/take", part('name="chosen"', b"9" * 300 + b":1e999") + end, FORM),
        post(kind, "a page's file", "/", part('name="file"; filename="../a.png"', picture) + part('name="of"', b"image") + end,
             FORM, fits=(*ANSWERED, *REFUSED)),
        post(kind, "a page's file as text", "/", b"file=/etc/passwd&of=image", plain, fits=EITHER),
        post(kind, "a page's vector of 1 MB", "/", b"of=image&vector=image:x:" + b"A" * 1_000_000, plain, fits=EITHER),
    ]  # fmt: skip
