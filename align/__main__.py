"""``python -m align``: the program where the script `align` is not on the path."""

from align.commands import main

raise SystemExit(main())
