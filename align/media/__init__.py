"""Media: the kinds of file that are read, and how each is read, described, checked, compared, written anew and shown.

Ours stand in MEDIA, and nothing registers itself. Functions that meet files take ``media``, which may hold others too.
"""

from align.media.array import ARRAY
from align.media.cloud import CLOUD
from align.media.medium import Medium
from align.media.picture import PICTURE
from align.media.sound import SOUND
from align.media.video import VIDEO
from align.media.words import WORDS

FLOORS = (
    ("reading", "recode"),
    ("medium", "npy"),
    ("containers",),
    ("pictures", "sounds", "sketch", "videos"),
    ("shapes", "words"),
    ("box", "picture", "sound", "cloud", "video"),
    ("array",),
    ("choice", "samples"),
)

Media = tuple[Medium, ...]
MEDIA: Media = (PICTURE, VIDEO, SOUND, CLOUD, WORDS, ARRAY)  # a file of unstated modality is of the first that fits
