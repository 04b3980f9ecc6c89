"""Lists the files of a folder that a push sends, and those of a repository that it owns."""

from ..data.recipe import RECIPE_FILE
from ..model.face_landmarks_selfmm import MODEL_FILES
from .saved_example import EXAMPLE_FILE

NETWORKS = ("face_networks", "models")  # the second is of earlier versions

# The files that a push sends, by pattern; it leaves all others. A model also sends its code and the tokenizer's files,
# a data set those that `origin.json` names.
SENT = {
    "model": (
        "README.md", "LICENSE", "config.json", "preprocessor_config.json", "processor_config.json", EXAMPLE_FILE,
        "model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json", "preset.yaml", "preset_*.yaml",
        "run.png", "handler.py", "requirements.txt",
        *(f"{folder}/{name}" for folder in NETWORKS for name in ("LICENSE", "NOTICE", *MODEL_FILES)),
    ),
    "dataset": ("README.md", "LICENSE", RECIPE_FILE),
    "space": (
        "README.md", "LICENSE", "*.py", "requirements.txt", "pre-requirements.txt", "packages.txt", "Dockerfile",
        "examples/*.txt", "examples/*.json", "examples/*.mp4", "examples/*.webm", "examples/*.wav", "examples/*.flac",
    ),
}  # fmt: skip
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.txt",
    "vocab.json", "merges.txt", "tokenizer.model", "chat_template.jinja",
)  # fmt: skip

# The files of a repository that pushes own, by pattern: the next push deletes those that the folder no longer has.
OWNED = {
    "model": ("*.py", "*.safetensors", "*.safetensors.index.json", "preset*.yaml", "run.png", "requirements.txt",
              "*token*", EXAMPLE_FILE, *(f"{folder}/*" for folder in NETWORKS)),
    "dataset": (RECIPE_FILE,),  # and the folders of its configurations
    "space": ("*.py", "examples/*"),
}  # fmt: skip
