"""The public names as type checkers see them; at run time they are resolved on first use."""

from align.checkpoint import load as load
from align.checkpoint import load_tower as load_tower
from align.checkpoint import save as save
from align.data import Shards as Shards
from align.evaluation import classify as classify
from align.evaluation import evaluate as evaluate
from align.model import JointModel as JointModel
from align.model import Tower as Tower
from align.objective import Objective as Objective
from align.objective import Term as Term
from align.scoring import score as score
from align.search import open_index as open_index
from align.values import BadSample as BadSample
from align.values import Batch as Batch
from align.values import Embeddings as Embeddings
from align.values import Features as Features
from align.values import Rows as Rows
from align.values import Sample as Sample
from align.values import Scores as Scores
from align.values import TermInfo as TermInfo

__version__: str
__all__: list[str]
