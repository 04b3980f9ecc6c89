import ast
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)
from transformers.dynamic_module_utils import get_imports

from selfmm_hf.model import audio_features_selfmm
from selfmm_hf.model.audio_features_selfmm import LIBROSA33_COLUMNS, AudioEncoder, _compile_librosa, librosa33, pooled

RATE = 16000


def voice(seconds, rate, seed=0):
    times = np.arange(round(seconds * rate)) / rate
    sound = sum(np.sin(2 * np.pi * 150 * number * times + number) / number for number in range(1, 20))
    sound *= 0.2 * (0.6 + 0.4 * np.sin(2 * np.pi * 2.5 * times))
    return (sound + 0.01 * np.random.default_rng(seed).normal(size=len(times))).astype(np.float32)


@pytest.fixture
def librosa():
    """Compiled by whoever comes first: two processes that do so at once leave a cache with which all others crash."""
    module = pytest.importorskip("librosa")
    _compile_librosa()
    return module


def straight(librosa, samples):
    from threadpoolctl import threadpool_limits  # comes with librosa

    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.filterwarnings("ignore", "n_fft=.* is too large|Trying to estimate tuning", UserWarning)
        zero = librosa.feature.zero_crossing_rate(samples, hop_length=512).T
        mfcc = librosa.feature.mfcc(y=samples, sr=22050, hop_length=512, htk=True).T
        chroma = librosa.feature.chroma_cqt(y=samples, sr=22050, hop_length=512).T
    return np.concatenate([zero, mfcc, chroma], axis=-1)


@pytest.mark.parametrize("samples", [1, 2, 511, 512, 2047, 2048, 11025, 22050, 70001])
def test_librosa33_is_librosa_called_straight(samples, librosa):
    sound = voice(samples / 22050, 22050)
    found = librosa33(sound, 22050)
    assert found.shape == (1 + samples // 512, 33) and found.dtype == np.float32
    np.testing.assert_allclose(found, straight(librosa, sound), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("samples", [40 * 512 - 1, 40 * 512, 103 * 512, 150001])
def test_librosa33_of_a_long_sound_is_computed_in_pieces(samples, librosa, monkeypatch):
    """Loud, faint and silent: what is relative to the loudest point, or to the tuning, is so to that of the whole."""
    monkeypatch.setattr(audio_features_selfmm, "PIECE", 40)
    third = samples // 3
    sound = voice(samples / 22050, 22050)
    sound[third : 2 * third] *= 1e-4
    sound[-third:] = 0
    found, expected = librosa33(sound), straight(librosa, sound)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[:, 0], expected[:, 0].astype(np.float32))
    np.testing.assert_allclose(found[:, 1:21], expected[:, 1:21], rtol=0, atol=1e-6 * np.abs(expected).max())
    np.testing.assert_allclose(found[:, 21:], expected[:, 21:], rtol=0, atol=1e-5)


def test_librosa33_takes_little_more_memory_for_a_longer_sound(librosa, monkeypatch, peak_memory):
    monkeypatch.setattr(audio_features_selfmm, "PIECE", 128)
    short, long = (peak_memory(librosa33, voice(seconds, 22050)) for seconds in (10, 25))
    assert (long - short) / 15 < 100e3  # bytes a second; librosa at once takes 1.1 MB


def test_librosa33_columns(librosa):
    assert len(LIBROSA33_COLUMNS) == len(set(LIBROSA33_COLUMNS)) == 33
    times = np.arange(22050) / 22050
    found = librosa33(np.sin(2 * np.pi * 440 * times).astype(np.float32))[5:-5]
    assert found[:, 0].mean() == pytest.approx(2 * 440 / 22050, rel=0.05)
    assert LIBROSA33_COLUMNS[21 + found[:, 21:].mean(axis=0).argmax()] == "chroma_A"
    louder = librosa33(0.1 * np.sin(2 * np.pi * 440 * times).astype(np.float32))[5:-5]
    changed = np.abs(found - louder).mean(axis=0)
    assert LIBROSA33_COLUMNS[changed.argmax()] == "mfcc_0"


@pytest.mark.parametrize("level", [0, 1e-30, 0.5, 1.0, 1e9, 2.0**31])
def test_librosa33_silence_and_thunder_are_finite(level, librosa):
    for sound in (np.full(30000, level, np.float32), level * voice(1, 22050)):
        found = librosa33(np.asarray(sound, np.float32))
        assert np.isfinite(found).all()
    if level == 0:
        assert (found[:, [0, *range(21, 33)]] == 0).all() and np.ptp(found[:, 1:21], axis=0).max() == 0


def test_librosa33_no_sound():
    assert librosa33(np.zeros(0, np.float32)).shape == (0, 33)


def test_librosa33_what_is_refused():
    with pytest.raises(ValueError, match="samples have 16000 Hz, expected 22050: decode or resample them"):
        librosa33(np.zeros(100, np.float32), 16000)
    with pytest.raises(ValueError, match=r"shape \(2, 100\), expected \(samples,\)"):
        librosa33(np.zeros((2, 100), np.float32))
    with pytest.raises(ValueError, match="samples are int16, expected floats"):
        librosa33(np.zeros(100, np.int16))
    with pytest.raises(ValueError, match="not finite"):
        librosa33(np.array([0, np.nan], np.float32))


def test_librosa_is_optional_and_imported_when_needed(monkeypatch):
    source = Path(audio_features_selfmm.__file__)
    needed = set(get_imports(source))
    assert needed - sys.stdlib_module_names == {"numpy", "torch", "transformers"}
    on_import = [node for node in ast.parse(source.read_text()).body if not isinstance(node, ast.FunctionDef)]
    assert "librosa" not in " ".join(ast.unparse(node) for node in on_import if isinstance(node, ast.Import | ast.Try))
    monkeypatch.setitem(sys.modules, "librosa", None)
    with pytest.raises(ImportError, match=r"pip install librosa"):
        librosa33(np.zeros(100, np.float32))


TINY = dict(
    hidden_size=12, num_hidden_layers=2, num_attention_heads=2, intermediate_size=17, conv_dim=(8, 8, 8),
    conv_stride=(5, 8, 8), conv_kernel=(10, 8, 8), num_feat_extract_layers=3, num_conv_pos_embeddings=8,
    num_conv_pos_embedding_groups=2, vocab_size=20,
)  # fmt: skip


def save(folder, kind):
    torch.manual_seed(3)
    if kind == "whisper":
        config = WhisperConfig(
            d_model=12, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=17, decoder_ffn_dim=17, num_mel_bins=16, max_source_positions=150, vocab_size=20,
            max_target_positions=9, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        )  # fmt: skip
        WhisperForConditionalGeneration(config).save_pretrained(folder)
        WhisperFeatureExtractor(feature_size=16, chunk_length=3).save_pretrained(folder)
        return folder
    config, model = {
        "data2vec-audio": (Data2VecAudioConfig, Data2VecAudioModel),
        "hubert": (HubertConfig, HubertModel), "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
        "wavlm": (WavLMConfig, WavLMModel),
    }[kind]  # fmt: skip
    model(config(**TINY)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["hubert", "wav2vec2", "wavlm", "whisper"])
def folder(request, tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / request.param, request.param)


def test_states_are_those_of_the_model(folder):
    """One window that the model sees as it is: 50 states a second, five of which make one row."""
    encoder = AudioEncoder(folder, frame_rate=10, window_seconds=3)
    assert encoder.sampling_rate == RATE and encoder.width == 12 and not encoder.model.training
    sound = voice(2.4, RATE)
    found = encoder(sound, RATE)
    assert found.shape == (24, 12) and found.dtype == np.float32
    if folder.name == "whisper":
        inputs = encoder.extractor(sound, sampling_rate=RATE, return_tensors="pt").input_features
        model = WhisperForConditionalGeneration.from_pretrained(folder).eval().get_encoder()
        assert inputs.shape == (1, 16, 300)
        with torch.no_grad():
            states = model(inputs).last_hidden_state[0, :120].numpy()
        np.testing.assert_allclose(found, states.reshape(24, 5, 12).mean(axis=1), atol=1e-5)
    else:
        sound = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
        kind = {"hubert": HubertModel, "wav2vec2": Wav2Vec2Model, "wavlm": WavLMModel}[folder.name]
        with torch.no_grad():
            states = kind.from_pretrained(folder).eval()(torch.tensor(sound)[None]).last_hidden_state[0].numpy()
        times = (np.arange(len(states)) + 0.5) / len(states) * 2.4
        rows = [states[(times >= row / 10) & (times < (row + 1) / 10)].mean(axis=0) for row in range(24)]
        np.testing.assert_allclose(found, rows, atol=1e-5)
    np.testing.assert_array_equal(encoder(sound), AudioEncoder(str(folder), window_seconds=3)(sound))


def test_windows_of_a_long_clip_stand_side_by_side(folder):
    encoder = AudioEncoder(folder, frame_rate=5, window_seconds=2)
    sound = voice(6, RATE)
    parts = [encoder(part) for part in np.split(sound, 3)]
    assert [part.shape for part in parts] == [(10, 12)] * 3
    np.testing.assert_allclose(encoder(sound), np.concatenate(parts), atol=1e-5)
    # One sample more: four windows of one length, rather than a window of one sample at the end.
    more = encoder(np.append(sound, np.float32(0)))
    assert more.shape == (30, 12)
    assert np.isfinite(more).all()


def test_any_length(folder):
    encoder = AudioEncoder(folder, frame_rate=10, window_seconds=1)
    assert encoder(np.zeros(0, np.float32)).shape == (0, 12)
    for samples in (1, 7, 400, 1599, 1600, 15999, 16000, 16001, 40000):
        found = encoder(voice(samples / RATE, RATE))
        assert found.shape == (max(1, round(samples / 1600)), 12) and np.isfinite(found).all()
    assert np.isfinite(encoder(np.zeros(20000, np.float32))).all()


def test_frame_rates(folder):
    sound = voice(2, RATE)
    for rate, rows in ((0.1, 1), (2.5, 5), (50, 100), (200, 400)):
        found = AudioEncoder(folder, frame_rate=rate, window_seconds=3)(sound)
        assert found.shape == (rows, 12) and np.isfinite(found).all()


@pytest.mark.parametrize("pieces", [[], [2], [1, 3, 5], [1, 2, 3, 4, 5]])
def test_pooling(pieces):
    states, times = np.arange(6, dtype=np.float32)[:, None], np.array([0.1, 0.3, 0.6, 1.1, 1.2, 2.6])
    windows = list(zip(np.split(states, pieces), np.split(times, pieces), strict=True))
    np.testing.assert_allclose(pooled(windows, 3, 1.0)[:, 0], [1, 3.5, 5])
    np.testing.assert_allclose(pooled(windows, 2, 1.0)[:, 0], [1, 4], atol=1e-6)  # the last row takes the rest
    np.testing.assert_allclose(pooled(windows, 6, 2.0)[:, 0], [0.5, 2, 3.5, 4, 5, 5])  # nearest where none


@pytest.mark.parametrize("frame_rate", [0.3, 4.0, 7.3, 40.0])
def test_pooling_by_windows_is_pooling_at_once(frame_rate):
    states = np.random.default_rng(0).normal(size=(90, 5)).astype(np.float32)
    times = (np.arange(90) + 0.5) / 9.7
    windows = zip(np.split(states, [13, 14, 60]), np.split(times, [13, 14, 60]), strict=True)
    frames = round(90 / 9.7 * frame_rate)
    np.testing.assert_array_equal(pooled(windows, frames, frame_rate), pooled([(states, times)], frames, frame_rate))


def test_pooling_holds_the_states_of_a_window_alone(peak_memory):
    def pool(windows):
        times = (np.arange(100) + 0.5) / 50
        return pooled(((np.ones((100, 768), np.float32), 2 * number + times) for number in range(windows)), 100, 1.0)

    assert peak_memory(pool, 48) < peak_memory(pool, 8) + 2e6  # 12 MB of states more


def test_the_checksum_is_that_of_the_weights(folder, tmp_path):
    checksum = AudioEncoder(folder, window_seconds=3).checksum
    assert len(checksum) == 64 and AudioEncoder(folder, window_seconds=2).checksum == checksum
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    key = next(key for key in weights if "encoder.layers" in key and key.endswith("k_proj.weight"))
    weights[key][0, 0] += 1e-3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert AudioEncoder(copy, window_seconds=3).checksum != checksum


def test_weights_that_are_made_up(folder, tmp_path):
    """A folder without a weight of the encoder is refused; one that training alone needs does not count."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    if folder.name != "whisper":
        checksum = AudioEncoder(copy).checksum
        whole = dict(weights)
        del weights["masked_spec_embed"]
        save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
        found = AudioEncoder(copy).checksum
        assert found == AudioEncoder(copy).checksum and found != checksum
        weights = whole
    key = next(key for key in weights if "encoder.layers" in key and key.endswith("k_proj.weight"))
    del weights[key]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"copy lacks weights of its encoder, such as .*k_proj.weight"):
        AudioEncoder(copy, window_seconds=3)


def test_what_is_refused(folder):
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="frame_rate is"):
            AudioEncoder(folder, frame_rate=rate)
    with pytest.raises(ValueError, match=r"window_seconds is 0, expected 0\.1 to"):
        AudioEncoder(folder, window_seconds=0)
    if folder.name == "whisper":
        with pytest.raises(ValueError, match=r"window_seconds is 3\.5, expected 0\.1 to 3 for"):
            AudioEncoder(folder, window_seconds=3.5)
    encoder = AudioEncoder(folder, window_seconds=3)
    with pytest.raises(ValueError, match="samples have 22050 Hz, expected 16000"):
        encoder(np.zeros(100, np.float32), 22050)
    with pytest.raises(ValueError, match="not finite"):
        encoder(np.array([0, np.inf], np.float32))
