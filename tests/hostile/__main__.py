"""Attack a server twice, and print a table for each pass and whatever was wrong."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from hostile.attack import attack, serving, write_table
from hostile.client import Good
from hostile.corpus import make_corpus
from hostile.watch import Outside


def main() -> int:
    """Return 0 where every answer was right."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outside = Outside(folder / "outside")
        with serving(folder) as server:
            good, corpus = Good(server.address), make_corpus(outside)
            wrong = []
            for number in (1, 2):
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
    sys.exit(main())
