"""Media: the kinds of file that are read, and how each is read, described, checked, re-encoded and shown."""

FLOORS = (("medium", "reading"), ("npy", "pictures", "sounds", "words"), ("shapes", "sketch"))
