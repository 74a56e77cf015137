"""The fields of a request, from JSON or a form, each with its type and its bounds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, final

from align.serve.refusal import Refusal, shorten, suggest


@final
class Fields:
    """Named values. Each is taken by its type, and ``finish`` refuses those that nobody took.

    where: the place in the request, for messages.
    """

    def __init__(self, values: Mapping[str, Any], where: str = "", *, form: bool = False):
        self._values, self._where, self._form = dict(values), where, form
        self._taken: list[str] = []

    def take(self, name: str, default: Any = None) -> Any:
        """Return a value of any type, or the default where it is absent or null."""
        self._taken.append(name)
        value = self._values.get(name)
        return default if value is None or (self._form and value == "") else value

    def has(self, name: str) -> bool:
        """Return True for a field that is there and is not null."""
        return self.take(name) is not None

    def text(self, name: str, most: int, default: str | None = None) -> str | None:
        """Return a string of at most so many characters."""
        value = self.take(name, default)
        if value is None or isinstance(value, str):
            if value is not None and len(value) > most:
                raise Refusal(413, f"{self._at(name)} has {len(value)} characters; at most {most} are read", param=name)
            return value
        raise self.wrong(name, "a text", value)

    def integer(self, name: str, default: int | None, low: int, high: int) -> int | None:
        """Return a whole number within bounds."""
        value = self._convert(name, default)
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and low <= value <= high):
            return value
        raise self.wrong(name, f"a whole number from {low} to {high}", value)

    def number(self, name: str, default: float | None = None, most: float = 1e9) -> float | None:
        """Return a finite number."""
        value = self._convert(name, default)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= most:  # NaN is not
            return float(value)
        raise self.wrong(name, "a number", value)

    def flag(self, name: str) -> bool:
        """Return true or false. Absent is false."""
        value = self._convert(name, False)
        if self._form and value in ("on", 1, 0):  # a checkbox
            return value in ("on", 1)
        if isinstance(value, bool):
            return value
        raise self.wrong(name, "true or false", value)

    def choice(self, name: str, words: Sequence[str], default: str | None = None) -> str | None:
        """Return one of these words."""
        value = self.take(name, default)
        if value is None or value in words:
            return value
        raise self.wrong(name, " or ".join(words), value)

    def mapping(self, name: str, most: int) -> dict[str, Any] | None:
        """Return an object of at most so many characters of JSON."""
        value = self._convert(name, None)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.wrong(name, "an object", value)
        if len(json.dumps(value)) > most:
            raise Refusal(413, f"{self._at(name)} is too long; at most {most} characters are read", param=name)
        return value

    def listing(self, name: str, most: int) -> list[Any] | None:
        """Return a list of at most so many entries."""
        value = self._convert(name, None)
        if value is None:
            return None
        if not isinstance(value, list):
            raise self.wrong(name, "a list", value)
        if len(value) > most:
            raise Refusal(413, f"{self._at(name)} has {len(value)} entries; at most {most} are read", param=name)
        return value

    def finish(self) -> None:
        """Raise Refusal (422) for a field that has no meaning here, with the nearest name."""
        for name in self._values:
            if name not in self._taken:
                raise Refusal(
                    422, f"no field {shorten(self._at(name))}; {suggest(name, self._taken)}", code="unknown_field",
                    param=name[:60],
                )  # fmt: skip

    def wrong(self, name: str, wanted: str, value: Any) -> Refusal:
        """Return the refusal of a value of another type."""
        came = shorten(value if isinstance(value, str) else json.dumps(value, default=str)[:200])
        return Refusal(422, f"{self._at(name)} is {wanted}, not {came}", param=name)

    def _at(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def _convert(self, name: str, default: Any) -> Any:
        """Return a value. In a form, where all are strings, it is read as JSON where it is such."""
        value = self.take(name, default)
        if self._form and isinstance(value, str):
            try:
                return parse_json(value.encode())
            except Refusal:
                return value
        return value


def parse_json(body: bytes) -> Any:
    """Return the content of JSON. Raises Refusal (400), also for NaN, for twice the same name and for deep nesting."""
    try:
        return json.loads(body, parse_constant=_no_number, object_pairs_hook=_no_twin)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise Refusal(400, f"the body is no JSON: {reason}") from None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _no_twin(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has a name twice")
    return found
