# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Do the generated labels mean anything?
#
# Most data sets have one label for a clip. Self-MM (Yu et al., AAAI 2021) generates a label for each modality from it:
# a clip whose voice lies nearer to the centre of the positive clips than its label says gets a more positive label for
# the voice. Are these labels true? In the synthetic corpus we can look, because it knows what each modality says.

# %%
import numpy as np
import torch
from IPython.display import display
from matplotlib.figure import Figure

from selfmm_hf import SelfMMConfig, SelfMMModel, SelfMMTrainer, SelfMMTrainingArguments
from selfmm_hf.data import Samples, fit_processor
from selfmm_hf.data.synthetic import demo_corpus, demo_text_config, demo_tokenizer
from selfmm_hf.labels.quality import correlation, mean_error, quality, true_labels

SIZES = {"train": 300, "validation": 60}
EPOCHS = 12
MODALITIES = ["text", "audio", "vision"]

# %% [markdown]
# ## The data
#
# In a third of the clips, the modalities disagree: sarcasm, a flat voice, a poker face, a masking smile.

# %%
splits = {split: Samples(rows) for split, rows in demo_corpus(sizes=SIZES).items()}
fit_processor(splits, demo_tokenizer())  # tokenizes the words, and normalises voice and face
train = splits["train"]
truth = true_labels(train, MODALITIES)
fused = train.labels

for name in MODALITIES:
    far = np.abs(truth[name] - fused) > 1
    print(f"{name:>6}: the label of the clip correlates {correlation(fused, truth[name]):.3f} with the truth; "
          f"{100 * far.mean():.0f} % of the clips are more than 1 away")  # fmt: skip

# %% [markdown]
# ## Two ways to generate labels
#
# `official` is what the authors' code does. `default` is this project's rule (docs/method.md). We train the same model
# with each, and keep the labels of every epoch.


# %%
def labels_by_epoch(convention: str) -> np.ndarray:
    """Trains, and returns the generated labels, (epochs, clips, modalities)."""
    torch.manual_seed(0)
    model = SelfMMModel(SelfMMConfig(text_config=demo_text_config(), audio_dim=33, vision_dim=41))
    arguments = SelfMMTrainingArguments(
        output_dir=f"runs/labels/{convention}", convention=convention, num_train_epochs=EPOCHS,
        gradient_accumulation_steps=1, learning_rates={"encoders.text": 5e-4}, save_strategy="no",
        load_best_model_at_end=False, early_stopping_patience=0, use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    trainer = SelfMMTrainer(model, arguments, train_dataset=train, eval_dataset=splits["validation"])
    trainer.train()
    return torch.stack(trainer.pseudo_labels.history).numpy()[..., 0]


labels = {convention: labels_by_epoch(convention) for convention in ("default", "official")}

# %% [markdown]
# ## How near are they to the truth?
#
# The dashed line is the label of the clip itself. A rule that stays below it (correlation) or above it (error) is worse
# than generating nothing.

# %%
figure = Figure(figsize=(9, 5), layout="constrained")
axes = figure.subplots(2, 3, sharex=True)
found = {"correlation": correlation, "mean error": mean_error}
for row, (said, measure) in enumerate(found.items()):
    for column, name in enumerate(MODALITIES):
        for convention, values in labels.items():
            axes[row, column].plot(range(1, EPOCHS + 1), quality(values[..., column], truth[name], measure),
                                   label=convention)  # fmt: skip
        axes[row, column].axhline(measure(fused, truth[name]), color="gray", linestyle="--")
        axes[row, column].set(title=name if row == 0 else "", xlabel="epoch" if row else "", ylabel=said)
axes[0, 0].legend()
display(figure)

last = {convention: values[-1] for convention, values in labels.items()}
for convention, values in last.items():
    near = {name: correlation(values[:, column], truth[name]) for column, name in enumerate(MODALITIES)}
    print(f"{convention:>9}: { ({name: round(value, 3) for name, value in near.items()}) }")

# %% [markdown]
# ## One clip
#
# The clip whose voice differs most from its label: where do its labels go?

# %%
clip = int(np.abs(truth["audio"] - fused).argmax())
print(f"{train['text'][clip]!r}: label {fused[clip]:+.1f}, voice in truth {truth['audio'][clip]:+.1f}")
for convention, values in labels.items():
    print(f"{convention:>9}: {' '.join(f'{value:+.1f}' for value in values[:, clip, MODALITIES.index('audio')])}")

# %% [markdown]
# ## For the class
#
# 1. Why are labels of the first epochs hardly changed by `default`, and wildly by `official`?
# 2. A clip's weight grows with the distance between its generated label and its annotated one. What happens to the
#    training if these labels are wrong?
# 3. Give the voice no signal: replace its frames by noise. Which rule notices?
# 4. CH-SIMS has labels for each modality by people. What would you measure there, and what could differ from here?
