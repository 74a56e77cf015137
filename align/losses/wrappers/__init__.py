"""Wrappers: losses around losses. Each takes any loss module and is one itself, so they nest.

| wrapper | adds | goes around |
|---|---|---|
| ``Matryoshka`` | the loss on the first d coordinates, for several d | any loss |
| ``Layers`` | the loss at several layers of ``align.encoders.Layered`` | losses of embeddings; not around a bank |
| ``Bank`` | all rows of a frozen modality as negatives | InfoNCE, SigLIP, Symile; not around a queue |
| ``MemoryQueue`` | rows of past batches as negatives | any loss with negatives |
| ``Metrix`` | rows mixed of two samples, positives of both | losses between two modalities; not around a queue |
| ``MixGeodesic`` | rows between a pair's two as negatives | losses between two modalities; not around a queue |
| ``Window`` | negatives whose cosine in a frozen modality lies in a window | InfoNCE and SigLIP |
| ``Relatives`` | no negatives among labels with a common ancestor | InfoNCE and SigLIP |
| ``Spaces`` | the loss in one space of ``align.heads.Streams``, or between two | any loss; not around a bank |
| ``Across`` | the loss between two spaces of each row | losses between two modalities |
| ``PrimaryComponents`` | the loss with one modality's large components | any loss; inside a queue or bank |
| ``Views`` | the loss between a sample's rows of one modality | losses between two modalities |
| ``HardNegatives`` | a weight for rows of sample id -1 | InfoNCE, SigLIP and Symile themselves: the innermost |

Wrappers that do not fit together are refused where they are built.
"""

from align.losses.wrappers.across import Across
from align.losses.wrappers.bank import Bank
from align.losses.wrappers.hard_negatives import HardNegatives
from align.losses.wrappers.layers import Layers
from align.losses.wrappers.matryoshka import Matryoshka
from align.losses.wrappers.memory_queue import MemoryQueue
from align.losses.wrappers.metrix import Metrix
from align.losses.wrappers.mix_geodesic import MixGeodesic
from align.losses.wrappers.primary_components import PrimaryComponents
from align.losses.wrappers.relatives import Relatives
from align.losses.wrappers.spaces import Spaces
from align.losses.wrappers.views import Views
from align.losses.wrappers.window import Window
from align.losses.wrappers.wrapper import Wrapper

__all__ = [
    "Across",
    "Bank",
    "HardNegatives",
    "Layers",
    "Matryoshka",
    "MemoryQueue",
    "Metrix",
    "MixGeodesic",
    "PrimaryComponents",
    "Relatives",
    "Spaces",
    "Views",
    "Window",
    "Wrapper",
]

FLOORS = (
    ("negatives", "stored", "wrapper"),
    ("hard_negatives", "layers", "memory_queue", "spaces", "views", "window"),
    ("across", "bank", "primary_components", "relatives"),
    ("matryoshka", "mix_geodesic"),
    ("metrix",),
)
"""Files of this folder, the lowest floor first. A file imports lower floors only."""
