# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # What do words, voice and face say?
#
# People say kind words in a bitter voice, smile while they complain, or keep a straight face. A sentiment model that
# reads the words alone misses that. Self-MM gives a score for the words, the voice and the face of a clip, and one
# for all of them together.
#
# This notebook needs the package with the extra `clips`, and a model: `selfmm demo` trains one in two minutes.
# **That model has seen synthetic voices and drawn faces only.** It shows the method, and cannot judge real people.

# %%
import tempfile
from pathlib import Path

from IPython.display import SVG, Markdown, display
from transformers import pipeline

import selfmm_hf  # noqa: F401 - the pipeline then runs the package, and no code of the model's folder
from selfmm_hf.data.synthetic import FUSION_WEIGHTS, utterance
from selfmm_hf.data.synthetic.clip import render

MODEL = "runs/demo/model"
ROWS = [21, 142, 127, 120]  # agreement, sarcasm, a poker face, a masking smile
pipe = pipeline("multimodal-sentiment", model=MODEL)

# %% [markdown]
# ## Four speakers
#
# The synthetic corpus knows what the words, the voice and the face of each clip say. We take four clips of its test
# split, and write them as MP4 files.

# %%
clips = {}
for row in ROWS:
    one = utterance(seed=0, split="test", row=row)
    clips[one.situation] = one

folder = Path(tempfile.mkdtemp())
for situation, one in clips.items():
    render(one, folder / f"{situation}.mp4")
    print(f"{situation:>14}: {one.text!r}, { ({name: round(value, 1) for name, value in one.sentiment.items()}) }")

# %% [markdown]
# ## What the model says of them
#
# Each picture has a bar for each modality, and one for all together. Compare them with the numbers above: which
# modality does the model read best?

# %%
results = {}
for situation, one in clips.items():
    results[situation] = result = pipe(str(folder / f"{situation}.mp4"), text=one.text)
    display(Markdown(f"**{situation}**: {one.text}, true label {one.label:+.1f}"))
    display(SVG(pipe.draw(result)))
    if said := pipe.disagreement(result):
        print(said)

# %% [markdown]
# ## Why is a sarcastic clip "neutral"?
#
# The annotators of this corpus trust the words with a weight of one half, the voice and the face with a quarter each.
# Kind words at +2 and a bitter voice and face at -2 add up to 0. The score of all together is what these annotators
# would say, not what the speaker means. So look at the disagreement, too: it is what a single score hides.

# %%
for situation, one in clips.items():
    together = sum(weight * one.sentiment[name] for name, weight in FUSION_WEIGHTS.items())
    print(f"{situation:>14}: weighted mean {together:+.2f}, predicted {results[situation]['score']:+.2f}")

# %% [markdown]
# ## Take something away
#
# A clip may lack a modality. The model then reads the others alone. Which of them moves the score most?

# %%
situation, one = next(iter(clips.items()))
file = str(folder / f"{situation}.mp4")
for name, given in {
    "all": {"text": one.text, "audio": file, "vision": file},
    "no words": {"audio": file, "vision": file},
    "no voice": {"text": one.text, "vision": file},
    "no face": {"text": one.text, "audio": file},
}.items():
    print(f"{name:>9}: {pipe(given)['score']:+.2f}")

# %% [markdown]
# ## Questions
#
# 1. Write sentences of your own: `pipe({"text": "..."})`. The vocabulary of the corpus has about 200 words; `words` of
#    the result counts the unknown ones.
# 2. `pipe(file, text=..., window_seconds=1.0)["timeline"]` has a score for each second. When does a speaker give the
#    mood away?
# 3. Would you let such a model decide about people? What would it have to be tested on first?
