"""Soups: one model whose weights are the average of several models' weights.

They are the uniform and the greedy soup of "Model soups" (Wortsman et al., ICML 2022, arXiv:2203.05482, section 2), and
the curve between two models of "Robust fine-tuning of zero-shot models" (WiSE-FT, Wortsman et al., CVPR 2022,
arXiv:2109.01903, section 4).
"""

from align.soup.fill import fill
from align.soup.ingredients import Ingredient, check_alike, find_ingredients
from align.soup.measure import Measure
from align.soup.recipes import Cooked, average, cook_greedily, interpolate
from align.soup.write import write_soup

__all__ = [
    "Cooked",
    "Ingredient",
    "Measure",
    "average",
    "check_alike",
    "cook_greedily",
    "fill",
    "find_ingredients",
    "interpolate",
    "write_soup",
]
