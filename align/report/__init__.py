"""Results and runs -> one self-contained HTML page."""

from align.media.medium import Face as Face
from align.report.diagnosis import write_diagnosis as write_diagnosis
from align.report.gallery import Answer as Answer
from align.report.gallery import Gallery as Gallery
from align.report.gallery import Item as Item
from align.report.gallery import Query as Query
from align.report.gallery import build_gallery as build_gallery
from align.report.gallery import read_samples as read_samples
from align.report.look import write_look as write_look
from align.report.page import write_report as write_report
from align.report.stages import read_stages as read_stages
