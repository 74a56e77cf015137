"""Data URIs, the only addresses whose content is read: nothing is ever fetched."""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

from align.serve.refusal import Refusal, shorten

EXAMPLE = "data:image/png;base64,..."
HEAD, ESCAPED = 1000, 1 << 16  # characters before the comma, and after it where they are no base64
SPACES = b" \t\r\n\f\v"


def read_data_uri(uri: Any, where: str) -> tuple[bytes, str]:
    """Return the bytes of a data URI (RFC 2397) and a name: its ``name`` parameter, else its subtype.

    Raises Refusal (422) for another address or broken base64.
    """
    if not isinstance(uri, str):
        raise Refusal(422, f"{where} is a data URI ({EXAMPLE})", param=where)
    head, comma, body = uri.partition(",")
    if not head.startswith("data:") or not comma:
        raise Refusal(
            422, f"{where} is {shorten(uri, 40)}; nothing is fetched: send the content itself as {EXAMPLE}",
            code="no_address", param=where,
        )  # fmt: skip
    if len(head) > HEAD:
        raise Refusal(422, f"{where} has {len(head)} characters before its comma; at most {HEAD} are read", param=where)
    kind, *options = head.removeprefix("data:").split(";")
    name = next((unquote(option[5:]) for option in options if option.startswith("name=")), kind.rpartition("/")[2])
    if "base64" not in options:
        if len(body) > ESCAPED:
            raise Refusal(422, f"{where} is longer than {ESCAPED} characters; send it in base64", param=where)
        return unquote_to_bytes(body), name
    try:
        return b64decode(body.encode("ascii").translate(None, SPACES), validate=True), name
    except (binascii.Error, ValueError):
        raise Refusal(422, f"{where} is no base64", param=where) from None
