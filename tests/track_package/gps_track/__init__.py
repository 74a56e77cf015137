"""GPS tracks for align: the medium says how a file is read and shown, the preprocess how it becomes a row."""

from gps_track.encoder import TrackEncoder
from gps_track.medium import Track
from gps_track.preprocess import TrackRows

__all__ = ["Track", "TrackEncoder", "TrackRows"]
