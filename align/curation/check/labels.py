"""Check of all labels together: balance, classes without a sample, values that are no class."""

from __future__ import annotations

from align.curation.check.findings import Place
from align.curation.check.seen import Seen

IMBALANCE = 100  # samples of the most frequent class for one of the rarest
RARE = 1000  # with more classes, those with a single sample are not named


def check_labels(seen: Seen, classes: dict[str, list[str]]) -> None:
    """Find faults of all labels together. classes: attribute -> names in the manifest, {} without a manifest."""
    findings = seen.findings
    total = seen.samples - seen.labelled
    if seen.labelled and total:
        first, *rest = seen.unlabelled
        findings.add("label/missing", first, n=total - len(rest))
        for place in rest:
            findings.add("label/missing", place)
    for attribute, counts in sorted(seen.labels.items()):
        kinds = seen.kinds.get(attribute, {})
        if len(kinds) > 1:
            a, b = kinds["number"], kinds["name"]
            findings.add("label/mixed", a, f"{attribute}: a number here, a name in {b.key}", b)
        plain: dict[str, str] = {}
        for value in counts:
            other = plain.setdefault(" ".join(value.casefold().split()), value)
            if other != value:
                where = seen.first[attribute, value]
                findings.add(
                    "label/alike", where, f"{attribute}: {value!r} and {other!r}", seen.first[attribute, other]
                )
        ranked = counts.most_common()
        (most, n), (least, few) = ranked[0], ranked[-1]
        if n > IMBALANCE * few:
            where = seen.first[attribute, least]
            findings.add("label/imbalance", where, f"{attribute}: {n} of {most!r}, {few} of {least!r}")
        names = classes.get(attribute)
        known = set(counts if names is None else names)
        if names is not None and "number" in kinds:  # an index into the names
            known |= set(map(str, range(len(names))))
        for value, n in counts.items():
            if value not in known:
                findings.add("label/unknown", seen.first[attribute, value], f"{attribute}: {value!r}", n=n)
            elif n == 1 < max(counts.values()) and len(counts) <= RARE:
                findings.add("label/rare", seen.first[attribute, value], f"{attribute}: {value!r}")
        if names is None:
            continue
        there = {names[int(v)] if v not in names and v.isdigit() and int(v) < len(names) else v for v in counts}
        for name in names:
            if name not in there:
                findings.add("label/absent", Place(""), f"{attribute}: {name!r}")
