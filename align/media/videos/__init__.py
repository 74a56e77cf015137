"""Videos: opened, described, and read at stated times (extra ``video``).

``reading`` opens a video. ``frames`` decodes forward and seeks, ``pixels`` makes frames upright RGB.
"""
