"""The writer of a feature cache."""

__all__: list[str] = []
