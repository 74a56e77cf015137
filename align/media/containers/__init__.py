"""Containers of moving pictures and sound that FFmpeg's libraries read, through PyAV (extra ``video``).

``kinds`` tells a container by its first bytes, ``ends`` finds where a file was cut, ``entries`` counts the index of an
MP4, ``opening`` opens it, and ``hearing`` decodes its sound.
"""

FLOORS = (("kinds",), ("ends", "entries"), ("opening",), ("hearing",))
