"""A sentence for the user, about one place of the page."""

from __future__ import annotations

from typing import final


@final
class Trouble(Exception):
    """A sentence for the user.

    place: its cause on the page: "parts", "filters", "of", "classes", or "" for none of these. status: of HTTP. wait:
    seconds after which another try may help.
    """

    def __init__(self, sentence: str, place: str = "", status: int = 422, wait: int | None = None):
        super().__init__(sentence)
        self.sentence, self.place, self.status, self.wait = sentence, place, status, wait
