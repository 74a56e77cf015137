"""Front ends of Audio: from waves to the input of an encoder. One published recipe a file."""

from align.preprocess.front_ends.base import ClipFrontEnd, FrontEnd
from align.preprocess.front_ends.clap import Clap
from align.preprocess.front_ends.clap_fusion import ClapFusion
from align.preprocess.front_ends.imagebind import ImageBindAudio
from align.preprocess.front_ends.kaldi import Kaldi
from align.preprocess.front_ends.laion_clap import LaionClap, LaionClapFusion
from align.preprocess.front_ends.log_mel import LogMel
from align.preprocess.front_ends.wave import Wave
from align.preprocess.front_ends.whisper import Whisper

FRONT_ENDS: dict[str, type[FrontEnd]] = {
    "log-mel": LogMel,
    "clap": Clap,
    "clap-fusion": ClapFusion,
    "whisper": Whisper,
    "kaldi": Kaldi,
    "wave": Wave,
    "imagebind": ImageBindAudio,
    "laion-clap": LaionClap,
    "laion-clap-fusion": LaionClapFusion,
}

__all__ = ["FRONT_ENDS", "ClipFrontEnd", "FrontEnd"]
