"""Parts of encoders of point clouds: sampling, neighbours and groups, in torch alone."""

FLOORS = (("sampling", "near"), ("groups",), ("between",))
"""Floors of this room, the lowest first."""
