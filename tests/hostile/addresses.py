"""Ids that are paths, ranges and headers by the thousand, hosts and origins of others."""

from __future__ import annotations

from hostile.request import ANSWERED, EITHER, REFUSED, Hostile, get, raw

FOUND = "/v1/items/1/media/image"


def ids() -> list[Hostile]:
    """Return items, files and pages whose names lead elsewhere."""
    kind, up = "addresses", "../" * 8 + "etc/passwd"
    names = {
        "a traversal": up,
        "a traversal in escapes": up.replace("/", "%2f"),
        "a traversal in escapes of escapes": up.replace("../", "%252e%252e%252f"),
        "a traversal in overlong UTF-8": "%c0%ae%c0%ae%c0%af" * 8 + "etc%c0%afpasswd",
        "a traversal with backslashes": up.replace("/", "%5c"),
        "dots in escapes": "%2e%2e",
        "an absolute path": "%2fetc%2fpasswd",
        "NUL": "%00",
        "a number and NUL": "1%00",
        "a number, NUL and a suffix": "1%00.png",
        "a line's end": "1%0d%0aSet-Cookie:%20a=b",
        "a number below zero": "-1",
        "a number with a sign": "%2B1",
        "a fraction": "1.0",
        "a power": "1e0",
        "hexadecimal": "0x1",
        "an underscore": "1_0",
        "Arabic digits": "%D9%A1",
        "a raised digit": "%C2%B9",
        "full-width digits": "%EF%BC%91",
        "spaces": "%201%20",
        "2 ** 63": str(2**63),
        "2 ** 64": str(2**64),
        "5,000 digits": "9" * 5000,
        "10,000 letters": "a" * 10_000,
        "half a character": "%ED%A0%80",
        "bytes that are no UTF-8": "%ff%fe",
        "right to left": "%E2%80%AE1",
        "zero width": "1%E2%80%8B",
        "SQL": "1%20OR%201=1--",
        "a template": "%7B%7B7*7%7D%7D",
        "a shell's command": "$(id)",
        "a matrix": "1;a=b",
        "nothing": "",
        "an escape that is none": "%zz",
    }
    files = {
        "a file's traversal": "/v1/items/1/media/" + up.replace("/", "%2f"),
        "a file's NUL": "/v1/items/1/media/image%00",
        "a file's member": "/v1/items/1/media/image.png",
        "a file's row": FOUND + "?row=-1",
        "a file's row in Arabic": FOUND + "?row=%D9%A1",
        "a file's row of 5,000 digits": FOUND + "?row=" + "9" * 5000,
        "a file's form": FOUND + "?form=../original",
        "a face's traversal": "/v1/items/1/face/..%2f..%2fimage",
        "a heat map without grid": "/v1/items/1/heat/audio?text=red",
        "a heat map of 20,000 letters": "/v1/items/1/heat/image?text=" + "a" * 12_000,
        "a page's item": "/item/..%2f1",
        "a page's look": "/look/1/..%2f..%2fetc/0",
        "a page's kit": "/kit/" + up,
        "a page's kit in escapes": "/kit/" + up.replace("/", "%2f"),
        "a page's kit by its absolute path": "/kit//etc/passwd",
        "a model's traversal": "/v1/models/" + up,
        "two slashes": "//etc/passwd",
        "dots in front": "/../../etc/passwd",
        "settings of git": "/.git/config",
        "a question mark alone": "/v1/items?",
        "keys twice": FOUND + "?row=0&row=9&form=shown&form=x",
    }
    queries = {
        "facets by a deep filter": "/v1/facets?where=" + "[" * 5000,
        "facets by no JSON": "/v1/facets?where=%7B",
        "facets by half a character": "/v1/facets?where=%7B%22a%22:%22%5Cud800%22%7D",
        "facets by where files lie": "/v1/facets?where=%7B%22shard%22:%7B%22exists%22:true%7D%7D",
        "a page's filter": "/?text=red&of=image&where=label&op=%ff&value=%00",
        "a page of 10^9 hits": "/?text=red&of=image&k=1000000000",
        "a page of NaN hits": "/?text=red&of=image&k=nan",
        "a page among nothing": "/?text=red&of=..%2f",
        "a page with a script": "/?text=%3Cscript%3Ealert(1)%3C/script%3E&of=image",
        "a page with 1,000 parts": "/?" + "text=a&" * 1000,
        "a page with an infinite threshold": "/?text=red&of=image&threshold=1e999",
        "a page with a wrong vector": "/?vector=image:x:AAAA&of=image",
    }
    return [
        *(get(kind, f"an id: {name}", f"/v1/items/{one}") for name, one in names.items()),
        *(get(kind, name, one, fits=EITHER if name == "keys twice" else REFUSED) for name, one in files.items()),
        *(get(kind, name, one, fits=EITHER) for name, one in queries.items()),
    ]


def ranges() -> list[Hostile]:
    """Return ranges of a file: by the thousand, beyond its end, backwards, and in other units."""
    wholes = {  # those that are no single range mean the whole file
        "1,000 ranges": "bytes=" + ",".join(f"{i}-{i}" for i in range(1000)),
        "2,000 ranges that overlap": "bytes=" + ",".join(["0-"] * 2000),
        "2,000 ranges from the end": "bytes=" + ",".join(f"-{i}" for i in range(1, 2001)),
        "a range backwards": "bytes=9-1",
        "a range of 40 digits": "bytes=0-" + "9" * 40,
        "another unit": "lines=0-1",
        "no numbers": "bytes=a-b",
        "a minus alone": "bytes=-",
        "an empty range": "bytes=",
        "Arabic digits": "bytes=٠-١",
        "a range twice": "bytes=0-1,0-1",
    }
    refused = {
        "beyond the end": "bytes=999999999-",
        "2 ** 59": f"bytes={2**59}-{2**59 + 1}",
        "the last none": "bytes=-0",
    }
    parts = {"the last 10^17": "bytes=-" + "9" * 17, "to 10^17": "bytes=0-" + "9" * 17, "spaces": "bytes= 0 - 1 "}
    kind = "ranges"
    return [
        *(get(kind, name, FOUND, f"Range: {one}", fits=ANSWERED) for name, one in wholes.items()),
        *(get(kind, name, FOUND, f"Range: {one}", fits=(416,)) for name, one in refused.items()),
        *(get(kind, name, FOUND, f"Range: {one}", fits=(206,)) for name, one in parts.items()),
        get(kind, "a range in two headers", FOUND, "Range: bytes=0-1", "Range: bytes=5-9", fits=ANSWERED),
        get(kind, "a range if it is another", FOUND, "Range: bytes=0-1", 'If-Range: "x"', fits=(200,)),
        get(kind, "1,000 marks", FOUND, "If-None-Match: " + ", ".join(['"x"'] * 1000), fits=(200,)),
    ]


def headers() -> list[Hostile]:
    """Return headers by the thousand and by the megabyte, hosts, origins and cookies."""
    kind, path = "headers", "/healthz"
    many = [f"X-{i}: {i}" for i in range(500)]
    hosts = [
        "evil.example",
        "localhost.evil.example",
        "localhost@evil.example",
        "evil.example:8000",
        "[::1",
        "",
        "a" * 5000,
        "127.0.0.1.nip.io",
        "0x7f.1",
        "localhost\t.evil.example",
        "xn--80ak6aa92e.com",
    ]
    origins = ["http://evil.example", "null", "file://", "http://localhost:1", "http://localhost.evil.example", "data:"]
    odd = [
        "Cookie: " + "a=b; " * 2000,
        "Cookie: =;;;==\x7f;",
        'Cookie: align_token="\\377\\000',
        "Cookie: a[]=1",
        "Accept: " + "text/html;q=0.1," * 500,
        "Accept: " + "*" * 9000,
        "Accept-Encoding: " + "gzip," * 1000,
        "X-Forwarded-For: 127.0.0.1",
        "X-Forwarded-Host: evil.example",
        "X-Original-URL: /etc/passwd",
        "X-HTTP-Method-Override: DELETE",
        "Forwarded: for=127.0.0.1;host=evil.example",
        "Authorization: Bearer ",
        "Authorization: Basic " + "A" * 5000,
        "User-Agent: () { :;}; id",
        "X-Part: results",
        "TE: trailers",
        "Via: " + "1.1 a," * 500,
        "Referer: javascript:alert(1)",
        "Content-Type: \u202egnp",
    ]
    twice = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    return [
        get(kind, "500 headers", path, *many, fits=EITHER),
        get(kind, "5,000 headers", path, *(many * 10)),
        get(kind, "a header of 1 MB", path, "X-A: " + "a" * (1 << 20)),
        get(kind, "a header of 17 KB", path, "X-A: " + "a" * (17 << 10)),
        get(kind, "a name of 17 KB", path, "a" * (17 << 10) + ": x"),
        get(kind, "a target of 1 MB", "/" + "a" * (1 << 20)),
        get(kind, "a target of 15 KB", "/" + "%41" * (5 << 10)),
        raw(kind, "two hosts", twice),
        *(get(kind, f"host {host[:30]!r}", path, host=host, fits=REFUSED) for host in hosts),
        *(get(kind, f"origin {origin}", path, f"Origin: {origin}", fits=(403,)) for origin in origins),
        get(kind, "a script of another site", path, "Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: cors", fits=(403,)),
        *(get(kind, one[:30], path, one, fits=EITHER) for one in odd),
    ]
