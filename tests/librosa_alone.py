"""
Imports librosa, alone among all processes: importing it compiles, and two processes that do so at once leave a cache
with which all others crash (see `_compile_librosa`).
"""

from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants

Path(constants.HF_HOME).mkdir(parents=True, exist_ok=True)
with FileLock(Path(constants.HF_HOME, "selfmm-librosa.lock")):
    import librosa.feature.spectral  # noqa: F401
