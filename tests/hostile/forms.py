"""Forms: too many parts, names that lead elsewhere, and forms that are cut or nested."""

from __future__ import annotations

from hostile.bodies import SEARCH
from hostile.request import ANSWERED, EITHER, FORM, REFUSED, Hostile, part, post

TEXT = part('name="of"', b"image") + part('name="query"', b"red")


def forms() -> list[Hostile]:
    """Return forms: too many parts, names that lead elsewhere, and forms that are cut or nested."""
    kind, end = "forms", b"--b--\r\n"
    text = TEXT
    picture = b"no picture"
    names = {
        "a traversal": 'filename="../../../../etc/passwd"',
        "NUL": 'filename="a\0b.png"',
        "a line's end": 'filename="a\\r\\nb"',
        "another character set": "filename*=UTF-8''..%2f..%2fetc%2fpasswd",
        "an unknown set": "filename*=idna''%ff",
        "10^4 letters": f'filename="{"a" * 10_000}.png"',
        "no end": 'filename="a',
        "a suffix of a mesh": 'filename="a.obj"',
    }
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
    types = [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=" + "b" * 5000,
        "multipart/form-data; boundary=b; charset=undefined",
        'multipart/form-data; boundary="b',
        "multipart/mixed; boundary=b",
        "multipart/form-data; boundary=b; boundary=c",
        "multipart/form-data; boundary=\\x00",
    ]
    plain = "application/x-www-form-urlencoded"
    page = part('name="chosen"', b"1:1") * 500 + end
    return [
        *(post(kind, name, SEARCH, one, FORM) for name, one in bodies.items()),
        *(post(kind, f"type {one[20:50]}", SEARCH, text + end, one, fits=EITHER) for one in types),
        *(
            post(
                kind,
                f"a file's name: {name}",
                SEARCH,
                text + part(f'name="image"; {one}', picture) + end,
                FORM,
                fits=EITHER,
            )
            for name, one in names.items()
        ),
        post(kind, "10^5 fields without files", SEARCH, b"a=b&" * 100_000, plain),
        post(kind, "escapes by the megabyte", SEARCH, b"query=" + b"%20" * 300_000, plain),
        post(kind, "escapes that are none", SEARCH, b"query=%zz%ff&of=image", plain, fits=EITHER),
        post(kind, "a page's form of 500 fields", "/take", page, FORM, fits=EITHER),
        post(kind, "a page's choice of 10^300", "/take", part('name="chosen"', b"9" * 300 + b":1e999") + end, FORM),
        post(
            kind,
            "a page's file",
            "/",
            part('name="file"; filename="../a.png"', picture) + part('name="of"', b"image") + end,
            FORM,
            fits=(*ANSWERED, *REFUSED),
        ),
        post(kind, "a page's file as text", "/", b"file=/etc/passwd&of=image", plain, fits=EITHER),
        post(kind, "a page's vector of 1 MB", "/", b"of=image&vector=image:x:" + b"A" * 1_000_000, plain, fits=EITHER),
    ]
