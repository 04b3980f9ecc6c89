"""The sentences of the synthetic corpus, from a small vocabulary, and a text encoder that knows all of it."""

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, PreTrainedTokenizerFast

OPENINGS = [
    "well", "honestly", "so", "you know", "i mean", "look", "okay", "um", "to be fair", "all in all", "oh", "yes",
    "and", "i think", "i must say", "for me",
]  # fmt: skip
SUBJECTS = [
    "the movie", "this film", "the story", "the acting", "the ending", "the whole plot", "the director", "the cast",
    "the music", "the first half", "the dialogue", "that last scene", "the camera work", "the script", "the book",
    "this place", "the food", "the service", "the trip", "the concert", "this phone", "the game", "the show", "my day",
    "the weather", "everything", "it", "this", "that",
]  # fmt: skip
VERBS = ["was", "felt", "seemed", "is", "looked"]
DEGREES = ["really", "very", "so", "quite", "just"]
LINKS = ["and", "also", "plus", "then"]
CLOSINGS = [
    "if you ask me", "i guess", "that is all", "for what it is worth", "in the theater", "you will see",
    "when we watched it", "at least tonight", "to be honest", "my friend", "this time",
]  # fmt: skip
# Words by sentiment; "not" in front inverts and halves it.
WORDS = {
    -3: [
        "horrible", "disgusting", "unbearable", "atrocious", "dreadful", "worthless", "awful", "terrible", "disastrous",
        "pathetic",
    ],
    -2: [
        "bad", "boring", "annoying", "stupid", "painful", "lousy", "sad", "poor", "disappointing", "ugly", "wrong",
        "frustrating",
    ],
    -1: ["slow", "weak", "flat", "clumsy", "messy", "dull", "tired", "silly", "strange", "cheap"],
    0: ["long", "average", "usual", "typical", "okay", "neutral", "normal", "short", "new", "different"],
    1: ["decent", "nice", "fine", "solid", "pleasant", "neat", "interesting", "cute", "useful", "calm"],
    2: [
        "good", "funny", "clever", "touching", "great", "lovely", "beautiful", "happy", "enjoyable", "fun", "sweet",
        "cool",
    ],
    3: [
        "amazing", "brilliant", "wonderful", "fantastic", "perfect", "superb", "excellent", "awesome", "outstanding",
        "incredible",
    ],
}  # fmt: skip
# What somebody does to a subject, by sentiment.
OPINIONS = {
    -3: ["hated", "hate", "despise"],
    -2: ["disliked", "regret", "dislike"],
    -1: ["doubt", "avoided"],
    0: ["saw", "watched", "remember"],
    1: ["liked", "like"],
    2: ["enjoyed", "enjoy"],
    3: ["loved", "love", "adore"],
}


def sentence(random: np.random.Generator, sentiment: float) -> str:
    """Makes a sentence of somebody with this sentiment, in [-3, 3]: up to three clauses that have it on average."""
    parts = [random.choice(OPENINGS)] if random.random() < 0.6 else []
    clauses = random.integers(1, 4)
    left = sentiment * clauses  # what the remaining clauses still have to say
    for clause in range(clauses):
        level = int(np.clip(round(left / (clauses - clause) + random.normal(0, 0.3)), -3, 3))
        left -= level
        parts += [random.choice(LINKS)] if clause else []
        subject = random.choice(SUBJECTS)
        if random.random() < 0.2:
            parts += ["i", random.choice(OPINIONS[level]), subject]
        else:
            parts += [subject, random.choice(VERBS), _judgement(random, level)]
    parts += [random.choice(CLOSINGS)] if random.random() < 0.4 else []
    return " ".join(map(str, parts))


def _judgement(random: np.random.Generator, level: int) -> str:
    if abs(level) == 1 and random.random() < 0.3:
        return "not " + random.choice(WORDS[-2 * level])
    degree = f"{random.choice(DEGREES)} " if random.random() < 0.2 else ""
    return degree + random.choice(WORDS[level])


def demo_tokenizer() -> PreTrainedTokenizerFast:
    """Returns a tokenizer of whole words that knows every word of the corpus."""
    levels = [word for words in (*WORDS.values(), *OPINIONS.values()) for word in words]
    phrases = [*OPENINGS, *SUBJECTS, *VERBS, *LINKS, *CLOSINGS, *DEGREES, "not", "i", *levels]
    words = dict.fromkeys(word for phrase in phrases for word in phrase.split())
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=64,
    )


def demo_text_config() -> BertConfig:
    """Returns the configuration of a BERT small enough to be trained from scratch together with the rest."""
    return BertConfig(
        vocab_size=len(demo_tokenizer()),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=64,
        type_vocab_size=1,
        pad_token_id=0,
    )
