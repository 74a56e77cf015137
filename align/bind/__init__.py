"""Heads in closed form, fitted on cached features in seconds."""

__all__: list[str] = []
