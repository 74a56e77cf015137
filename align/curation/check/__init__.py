"""A check of shards before training: findings with their reason, their number and where they were seen."""

from align.curation.check.diagnosis import Diagnosis as Diagnosis
from align.curation.check.diagnosis import diagnose as diagnose
from align.curation.check.findings import Example as Example
from align.curation.check.findings import Finding as Finding
from align.curation.check.findings import Findings as Findings
from align.curation.check.findings import Place as Place
