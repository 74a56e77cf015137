"""A model folder for the Hugging Face hub: a card made of what is known, the weights, and their upload."""

from align.convert.hub.write import write_hub

__all__ = ["write_hub"]
