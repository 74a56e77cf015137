"""The small generated world that `align quickstart` trains on: solids to see, to touch, to hear and to read about.

`write_world` writes its shards, `config.yaml` beside this file trains on them. `write_scenes` writes scenes of
several solids with a region for each. `compose_queries` makes queries of a solid and a change. Nothing here imports
torch until shards are written, so the processes that make the objects start in a fraction of a second.
"""

from align.quickstart.composed import compose_queries
from align.quickstart.scene_write import write_scenes
from align.quickstart.world import ATTRIBUTES, TEMPLATES, Solid, draw
from align.quickstart.write import write_world

__all__ = ["ATTRIBUTES", "TEMPLATES", "Solid", "compose_queries", "draw", "write_scenes", "write_world"]
