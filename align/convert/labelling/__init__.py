"""Shards as folders of labelling tools: FiftyOne and Label Studio, with embeddings and zero-shot labels."""

from align.convert.labelling.fiftyone import write_fiftyone
from align.convert.labelling.label_studio import write_label_studio
from align.convert.labelling.records import open_reading

__all__ = ["open_reading", "write_fiftyone", "write_label_studio"]
