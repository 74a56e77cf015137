"""Encoded sound: opened with its true length, or refused with the reason.

``recording`` opens a file or its bytes, ``length`` says how long it is, by the rules of its container (``containers``,
``flac``, ``mpeg``); ``formats`` names those that are not read.
"""
