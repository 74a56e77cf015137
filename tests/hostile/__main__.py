"""Attack a server, and print a table for each pass and whatever was wrong.

``python -m hostile [PASSES [KIND ...]]``: two passes of all kinds by default.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from hostile.attack import attack, serving, write_table
from hostile.client import Good
from hostile.corpus import make_corpus
from hostile.watch import Outside


def main(passes: int = 2, *kinds: str) -> int:
    """Return 0 where every answer was right."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outside = Outside(folder / "outside")
        with serving(folder) as server:
            good = Good(server.address)
            corpus = [one for one in make_corpus(outside) if not kinds or one.kind in kinds]
            wrong = []
            for number in range(1, passes + 1):
                rows = attack(server, corpus, good, outside)
                print(f"Pass {number}\n\n{write_table(rows)}\n", flush=True)
                wrong += [one for row in rows for one in row.wrong]
            good.close()
        print((folder / "log").read_text(), end="")
        outside.close()
    for one in wrong:
        print(one)
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(int((*sys.argv, 2)[1]), *sys.argv[2:]))
