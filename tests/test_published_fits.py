"""Names of tensors fit one layout each: those of the whole published files, and of files that lack some."""

from pathlib import Path

import pytest
from keys import read_keys

from align.published import likely_layouts

GOLDEN = Path(__file__).parent / "golden"
FILES = {
    "imagebind": ("imagebind",),
    "laion-clap": ("laion_clap-tiny", "laion_clap-tiny-fusion", "laion_clap-base"),
    "openshape": ("openshape",),
    "ulip2": ("ulip2",),
    "uni3d": tuple(f"uni3d-{size}" for size in ("ti", "s", "b", "l", "g")),
    "ebind": ("ebind",),
}
EACH = [(layout, file) for layout, files in FILES.items() for file in files]


def names_of(file):
    names = list(read_keys(GOLDEN / f"{file}.keys"))
    return [name.removeprefix("module.") for name in names]


@pytest.mark.parametrize(("layout", "file"), EACH)
def test_the_names_of_a_published_file_fit_its_layout_alone(layout, file):
    assert likely_layouts(names_of(file)) == [layout]


@pytest.mark.parametrize(("layout", "file"), EACH)
def test_a_file_that_lacks_a_tensor_is_still_of_its_layout(layout, file):
    from align.published.layouts import find_module

    names = names_of(file)
    fits = find_module(layout).fits
    for i in range(len(names)):
        assert fits(names[:i] + names[i + 1 :]), names[i]
