"""Encoded sound, opened with its true length or refused with the reason.

``recording`` opens a file or its bytes. ``length`` finds how long it is, by the rules of its container (``containers``,
``flac``, ``mpeg``, ``ogg``). ``formats`` names those that are not read.
"""
