"""Is this set fit to train on? Every finding with its reason, its count, and where it was seen."""

from align.data.check.diagnosis import Diagnosis as Diagnosis
from align.data.check.diagnosis import diagnose as diagnose
from align.data.check.findings import Example as Example
from align.data.check.findings import Finding as Finding
from align.data.check.findings import Findings as Findings
from align.data.check.findings import Place as Place
