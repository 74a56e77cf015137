"""Data URIs that are not what they say, and addresses in their place."""

from __future__ import annotations

from hostile.pictures import small
from hostile.request import EITHER, Hostile, ask, uri


def uris(listener: str, canary: str) -> list[Hostile]:
    """Return data URIs and addresses in their place. listener: an address of a server that hears every visitor."""
    kind, good = "data URIs", small("PNG")
    addresses = [
        f"http://{listener}/a.png",
        f"//{listener}/a.png",
        f"ftp://{listener}/a",
        f"gopher://{listener}/_a",
        canary,
        f"file://{canary}",
        f"file:{canary}",
        "/etc/passwd",
        "../../etc/passwd",
        "/dev/zero",
        "/proc/self/environ",
        "http://169.254.169.254/latest/meta-data/",
        "jar:file:///a!/b",
        "php://filter/resource=a",
        "javascript:alert(1)",
        "blob:http://localhost/a",
        "s3://a/b",
        "pipe:id",
        "hf://a/b",
    ]
    broken = {
        "no comma": "data:image/png;base64",
        "no base64": "data:image/png;base64,!!!!",
        "half of it": uri(good)[:-3],
        "base64 of base64": "data:;base64," + uri(uri(good).encode()).partition(",")[2],
        "2 MB before the comma": "data:" + ";a=b" * 500_000 + ",",
        "escapes": "data:," + "%41" * 100_000,
        "another alphabet": "data:;base64,é",
        "a URI in a URI": "data:,data:;base64,AAAA",
        "an address in it": f"data:,http://{listener}/",
        "a name of a path": uri(b"x", canary.replace("/", "%2F")),
        "a name with NUL": uri(b"x", "a%00.png"),
    }
    typed = {
        "a picture as HTML": uri(good, "", "text/html"),
        "a picture as a sound": uri(good, "a.wav", "audio/wav"),
        "a type of 900 letters": uri(good, "", "a" * 900),
        "a type with a line's end": uri(good, "", "image/png%0d%0aX: y"),
        "spaces in it": uri(good).replace("A", "A \n"),
    }
    return [
        *(
            ask(
                kind,
                f"an address: {one.replace(listener, 'LISTENER').replace(canary, 'FILE')}",
                "/v1/embeddings",
                {"input": {"image": one}},
            )
            for one in addresses
        ),
        *(ask(kind, name, "/v1/embeddings", {"input": {"image": one}}) for name, one in broken.items()),
        *(ask(kind, name, "/v1/embeddings", {"input": {"image": one}}, fits=EITHER) for name, one in typed.items()),
        ask(kind, "a picture as points", "/v1/embeddings", {"input": {"points": uri(good, "a.npy")}}),
        ask(kind, "a picture as sound", "/v1/embeddings", {"input": {"audio": uri(good, "a.flac")}}),
        ask(kind, "a number", "/v1/embeddings", {"input": {"image": 5}}),
        ask(kind, "a list", "/v1/embeddings", {"input": {"image": [uri(good)]}}),
    ]
