"""The common clock of sound and picture, square pixels, tracks and channels, files that are cut off."""

import wave
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")
pytest.importorskip("soxr")

from test_decoding import HEIGHT, WIDTH, numbers, picture, voice, write_clip  # noqa: E402

from selfmm_hf.model.decoding_selfmm import ClipError, ClipWarning, decode_audio, decode_video  # noqa: E402

RATE = 16000
CONTAINERS = [("mp4", "mpeg4", "aac"), ("mov", "mpeg4", "aac"), ("mkv", "mpeg4", "flac"),
              ("webm", "libvpx", "libopus"), ("ts", "mpeg4", "aac")]  # fmt: skip


def shifted(source, path, kind, seconds=0.0, hole=None, options=None):
    """The same packets, those of one kind later, or without those that begin in the hole."""
    with av.open(str(source)) as old, av.open(str(path), "w", options=options or {}) as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        start = old.start_time / 1e6
        for packet in [packet for packet in old.demux() if packet.dts is not None]:
            if packet.stream.type == kind:
                if hole and hole[0] <= packet.pts * packet.time_base - start < hole[1]:
                    continue
                packet.pts += round(seconds / packet.time_base)
                packet.dts += round(seconds / packet.time_base)
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    return path


def shown(path, rate=12):
    """The number of each picture, `None` where there is none."""
    frames = list(decode_video(path, rate))
    return [None if frame is None else numbers([frame])[0] for frame in frames]


def delay(sound, reference, begin, end):
    """How many seconds later than in the reference the sound of this stretch is."""
    part = reference[round(begin * RATE) : round(end * RATE)]
    return np.correlate(sound, part, "valid").argmax() / RATE - begin


@pytest.fixture(params=CONTAINERS, ids=[name for name, *_ in CONTAINERS])
def clip(request, tmp_path):
    extension, video, audio = request.param
    return write_clip(tmp_path / f"clip.{extension}", video, audio, seconds=3, rate=48000)


def test_a_picture_that_begins_later_is_missing_until_then(clip, tmp_path):
    late = shifted(clip, tmp_path / f"late{clip.suffix}", "video", 1.0)
    # The time of MPEG-TS has a frame of priming in front, of which nothing tells.
    assert shown(late) == [None] * (13 if clip.suffix == ".ts" else 12) + list(range(36))
    assert abs(delay(decode_audio(late, RATE), decode_audio(clip, RATE), 1, 2)) < 0.005


def test_sound_that_begins_later_is_silent_until_then(clip, tmp_path):
    late, whole = shifted(clip, tmp_path / f"late{clip.suffix}", "audio", 1.0), decode_audio(clip, RATE)
    sound = decode_audio(late, RATE)
    assert shown(late) == shown(clip) == list(range(36))
    assert np.abs(sound[: RATE - 800]).max() < 1e-3
    assert delay(sound, whole, 1, 2) == pytest.approx(1, abs=0.05)
    assert len(sound) == pytest.approx(RATE + len(whole), abs=800)
    with pytest.raises(ClipError, match=r"than the 3.2 s that are allowed"):
        decode_audio(late, RATE, max_seconds=3.2)


def places(path, whole):
    """How many seconds later than in a whole clip the sound and the 24th picture of another one are."""
    return delay(decode_audio(path, RATE), decode_audio(whole, RATE), 1, 2), shown(path, 96).index(24) / 96 - 2


@pytest.fixture(scope="module", params=[("aac", 24000), ("libopus", 48000)], ids=["aac", "opus"])
def whole(request, tmp_path_factory):
    """H.264 with B-frames, which are decoded before they are shown, and a codec that puts priming before the sound."""
    audio, rate = request.param
    return write_clip(tmp_path_factory.mktemp("whole") / "whole.mp4", "libx264", audio, seconds=3, rate=rate)


@pytest.mark.parametrize("options", [{"movflags": "frag_keyframe"}, {"movflags": "frag_keyframe+empty_moov"},
    {"movflags": "frag_keyframe+empty_moov+default_base_moof"}, {"movflags": "frag_keyframe+empty_moov+delay_moov"},
    {"use_editlist": "0"}, {"avoid_negative_ts": "make_zero"}],
    ids=lambda options: "-".join(options.values()))  # fmt: skip
def test_sound_and_picture_of_an_mp4_stay_together(options, whole, tmp_path):
    sound, seen = places(shifted(whole, tmp_path / "clip.mp4", "video", options=options), whole)
    assert abs(seen - sound) < 0.05 and 0 <= sound < 0.05 and 0 <= seen < 0.05  # the priming stays: 43 ms of AAC


@pytest.mark.parametrize("audio", ["flac", "aac", "libmp3lame", "pcm_s16le"])
@pytest.mark.parametrize("seconds", [0.06, 0.1])
def test_a_picture_that_begins_a_little_later_does_so(audio, seconds, tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", "mpeg4", audio, seconds=3, rate=48000)
    late = shifted(clip, tmp_path / "late.mkv", "video", seconds)
    sound, seen = places(late, clip)
    assert abs(sound) < 0.005 and seen - seconds == pytest.approx(places(clip, clip)[1], abs=0.05)


@pytest.mark.parametrize("audio", ["pcm_s16le", "libmp3lame"])
def test_pictures_of_avi_are_in_order(audio, tmp_path):
    """AVI does not tell when pictures with B-frames are shown."""
    clip = write_clip(tmp_path / "clip.avi", "libx264", audio, seconds=2, rate=48000)
    assert shown(clip) == list(range(24))


def test_packets_that_are_missing_leave_silence(clip, tmp_path):
    sound = decode_audio(shifted(clip, tmp_path / f"hole{clip.suffix}", "audio", hole=(0.7, 2.1)), RATE)
    whole = decode_audio(clip, RATE)
    assert np.abs(sound[round(0.8 * RATE) : round(2.0 * RATE)]).max() < 1e-3
    assert abs(delay(sound, whole, 0.1, 0.6)) < 0.005 and abs(delay(sound, whole, 2.3, 2.8)) < 0.05
    assert len(sound) == pytest.approx(len(whole), abs=800)


def test_frames_that_are_missing_leave_no_picture(clip, tmp_path):
    if clip.suffix == ".webm":
        pytest.skip("VP8 needs the frames before")
    if clip.suffix in (".mp4", ".mov", ".mkv", ".ts"):  # each frame on its own
        clip = write_clip(clip, "mjpeg" if clip.suffix != ".ts" else "mpeg2video", "mp2", seconds=3, rate=48000)
    seen = shown(shifted(clip, tmp_path / f"hole{clip.suffix}", "video", hole=(0.99, 2.49)))
    assert seen[:12] == list(range(12)) and seen[12:30] == [None] * 18 and len(seen) == 36
    if clip.suffix != ".ts":
        assert seen[30:] == list(range(30, 36))


def test_long_stills_are_no_holes(tmp_path):
    slides = write_clip(tmp_path / "slides.mkv", "mpeg4", times=[0, 5, 10, 15])
    assert shown(slides, 1)[:16] == [0] * 5 + [1] * 5 + [2] * 5 + [3]
    screen = write_clip(tmp_path / "screen.mkv", "mpeg4", times=[0, 0.5, 1.4, 1.5, 2.4, 2.5])
    assert None not in shown(screen)
    still = write_clip(tmp_path / "still.mp4", "mpeg4", times=[0, 4])
    assert shown(still, 1)[:4] == [0] * 4


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_streams_that_begin_within_some_milliseconds_begin_together(kind, tmp_path):
    clip = write_clip(tmp_path / "clip.mkv", "mpeg4", "flac", seconds=1, rate=48000)
    late = shifted(clip, tmp_path / "late.mkv", kind, 0.04)
    np.testing.assert_array_equal(decode_audio(late, RATE), decode_audio(clip, RATE))
    assert shown(late) == shown(clip)


def test_jitter_changes_nothing(tmp_path):
    """Times of sound packets that are up to 40 ms late."""
    clip, path = write_clip(tmp_path / "clip.mkv", "mpeg4", "aac", rate=48000), tmp_path / "jitter.mkv"
    random = np.random.default_rng(0)
    with av.open(str(clip)) as old, av.open(str(path), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                if packet.stream.type == "audio" and packet.pts > 0:
                    packet.pts = packet.dts = packet.pts + int(random.integers(0, 20))
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    np.testing.assert_array_equal(decode_audio(path, RATE), decode_audio(clip, RATE))


def test_joined_files_go_on(tmp_path):
    """Two recordings, one behind the other, with times that begin anew."""
    one = write_clip(tmp_path / "one.ts", "mpeg2video", "mp2", seconds=2, rate=48000)
    (tmp_path / "both.ts").write_bytes(one.read_bytes() * 2)
    sound, whole = decode_audio(tmp_path / "both.ts", RATE), decode_audio(one, RATE)
    assert len(sound) == pytest.approx(2 * len(whole), abs=1600)
    assert len(shown(tmp_path / "both.ts")) == pytest.approx(48, abs=2)


def test_windows_after_a_hole_pair_voice_and_face(tmp_path, monkeypatch):
    """A face that smiles from 2 s on, a picture that begins after 1 s, and sound that has a hole before 2 s."""
    for package in ("ai_edge_litert", "librosa"):
        pytest.importorskip(package)
    from test_face_landmarks import draw_face

    from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor
    from selfmm_hf.model.processing_selfmm import windows

    monkeypatch.setattr("test_decoding.picture", lambda number: draw_face(smile=float(number >= 12), size=128))
    for side in ("WIDTH", "HEIGHT"):
        monkeypatch.setattr(f"test_decoding.{side}", 128)
    tone = np.where(np.arange(3 * 48000) < 2 * 48000, 0.1, 1.0).astype(np.float32) * voice(3, 48000)
    clip = write_clip(tmp_path / "clip.mkv", "mpeg4", "flac", seconds=3, rate=48000, sound=tone)
    shifted(clip, tmp_path / "late.mkv", "video", 1.0)
    shifted(tmp_path / "late.mkv", tmp_path / "hole.mkv", "audio", hole=(1.0, 1.9))
    extractor = SelfMMFeatureExtractor(audio={"kind": "librosa33", "silence_db": None},
                                       vision={"kind": "face", "still_change": None})  # fmt: skip
    features, absent = extractor.extract(tmp_path / "hole.mkv")
    assert absent == {} and len(features["vision"]) == 40 and (features["vision"][:10] == 0).all()
    pieces = windows(features, extractor.frame_rates, 1.0)
    assert [len(part["vision"]) for _, _, part in pieces] == [0, 10, 10, 10]
    smile = [part["vision"][:, 7].mean() for _, _, part in pieces[1:]]  # corner_lift
    assert smile[0] < smile[1] - 0.02 and abs(smile[1] - smile[2]) < 0.02
    loud = [part["audio"][:, 1].mean() for _, _, part in pieces[:3]]  # the loudness of MFCC
    assert loud[1] < loud[0] < loud[2]


def test_a_missing_picture_is_a_row_of_zeros_for_an_image_model(tmp_path):
    from test_vision_features import save_model

    from selfmm_hf.model.vision_features_selfmm import ImageEncoder

    save_model(tmp_path, "ViTModel")
    encoder, image = ImageEncoder(tmp_path), np.full((40, 60, 3), 90, np.uint8)
    rows, share = encoder([None, image, None])
    assert share == pytest.approx(1 / 3) and rows.shape[0] == 3
    assert (rows[[0, 2]] == 0).all()
    np.testing.assert_array_equal(rows[1:2], encoder([image])[0])
    assert encoder([None])[0].shape == (0, encoder.width)


@pytest.mark.parametrize(("ratio", "size"), [((4, 3), (85, 48)), ((3, 4), (64, 64)), ((1, 1), (64, 48)),
                                             ((1001, 1000), (64, 48))])  # fmt: skip
@pytest.mark.parametrize("extension", ["mp4", "mkv", "avi"])
def test_pixels_become_square(ratio, size, extension, tmp_path):
    path = tmp_path / f"clip.{extension}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 4_000_000
        stream.codec_context.sample_aspect_ratio = Fraction(*ratio)
        for number in range(3):
            image = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            image.pts, image.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    frames = list(decode_video(path, 10))
    assert {frame.shape for frame in frames} == {(size[1], size[0], 3)}
    assert numbers(frames) == [0, 1, 2]
    corner = frames[0][: size[1] // 4 - 2, : size[0] // 4 - 2]
    assert corner.min() > 200 and frames[0][:, size[0] // 4 + 2 :].max() < 100


def test_pixels_are_stretched_before_the_picture_is_turned(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", "libx264", degrees=90)
    monkeypatch.setattr("selfmm_hf.model.decoding_selfmm._aspect", lambda stream: 1.5)
    assert next(decode_video(path, 10)).shape == (96, 48, 3)
    monkeypatch.setattr("selfmm_hf.model.decoding_selfmm._aspect", lambda stream: 2.0**31)
    with pytest.raises(
        ClipError, match=r"'clip.mp4' has pixels that are not square: 64 x 48 are to be seen as \d+ x 48"
    ):
        next(decode_video(path, 10))


def tracks(path, *dispositions):
    """Sound tracks that hold 0.1, 0.2, ... throughout."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in dispositions]
        for stream, disposition in zip(streams, dispositions, strict=True):
            stream.disposition = disposition
        for number, stream in enumerate(streams, start=1):
            frame = av.AudioFrame.from_ndarray(np.full((1, RATE), 3277 * number, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            container.mux([*stream.encode(frame), *stream.encode()])
    return path


@pytest.mark.parametrize(("names", "taken"), [(["", "default"], 2), (["", ""], 1), (["default", "default"], 1),
    (["comment", ""], 2), (["visual_impaired", "comment"], 1), (["comment default", "", "default"], 3),
    (["", "default comment"], 2)])  # fmt: skip
def test_the_default_track_is_heard(names, taken, tmp_path):
    kinds = av.stream.Disposition
    flags = [sum((int(kinds[one]) for one in name.split()), 0) for name in names]
    sound = decode_audio(tracks(tmp_path / "clip.mkv", *flags), RATE)
    assert sound.mean() == pytest.approx(taken / 10, abs=1e-3)


@pytest.mark.parametrize(("layout", "weights"), [
    ("5.1", {"FL": 0.7071, "FR": 0.7071, "FC": 1, "LFE": 0, "BL": 0.5, "BR": 0.5}),
    ("7.1", {"FC": 1, "LFE": 0, "SL": 0.5, "BR": 0.5}), ("3.0", {"FL": 0.7071, "FC": 1}), ("quad", {"BL": 0.5}),
    ("stereo", {"FL": 0.5, "FR": 0.5}), ("mono", {"FC": 1})])  # fmt: skip
@pytest.mark.parametrize(("name", "codec"), [("clip.mkv", "flac"), ("clip.wav", "pcm_s16le")])
def test_channels_are_mixed_by_the_standard(layout, weights, name, codec, tmp_path):
    channels = [channel.name for channel in av.AudioLayout(layout).channels]
    for channel, weight in weights.items():
        samples = np.zeros((RATE, len(channels)), np.int16)
        samples[:, channels.index(channel)] = 10000 * np.sin(np.arange(RATE) / 8)
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate, frame.pts = RATE, 0
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream(codec, rate=RATE, layout=layout, format="s16")
            resampler = av.AudioResampler("s16", layout, RATE, frame_size=stream.codec_context.frame_size or None)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(stream.encode(part))
            container.mux(stream.encode())
        expected = weight * samples[:, channels.index(channel)] / 2**15
        np.testing.assert_allclose(decode_audio(tmp_path / name, RATE), expected, atol=2e-4)


@pytest.mark.parametrize(("noise", "offset", "level"), [(0, 0, 1), (0, 0.3, 1), (0.5, 0, 1), (0, 0, 0.6)])
def test_channels_that_cancel_are_noticed(noise, offset, level, tmp_path):
    random, speech = np.random.default_rng(0), voice(2, RATE)
    rooms = noise * speech.std() * random.normal(size=(2, len(speech)))
    sound = np.stack([speech, -level * speech]) + rooms + offset
    path = write_clip(tmp_path / "clip.wav", audio="pcm_f32le", sound=sound.astype(np.float32), rate=RATE, channels=2)
    with pytest.warns(ClipWarning, match=r"the two sound channels of 'clip.wav' cancel each other"):
        found = decode_audio(path, RATE)
    np.testing.assert_allclose(found, (sound[0] - sound[1]) / 2, atol=1e-5)
    assert np.corrcoef(found, speech)[0, 1] > 0.9


@pytest.mark.parametrize("right", [1.0, 0.0, -0.1])
def test_channels_that_do_not_cancel_become_their_mean(right, tmp_path):
    speech = voice(1, RATE)
    sound = np.stack([speech, right * speech])
    path = write_clip(tmp_path / "clip.wav", audio="pcm_f32le", sound=sound, rate=RATE, channels=2)
    np.testing.assert_allclose(decode_audio(path, RATE), sound.mean(axis=0), atol=1e-6)
    noise = np.random.default_rng(0).normal(size=(2, RATE)).astype(np.float32)
    path = write_clip(tmp_path / "noise.wav", audio="pcm_f32le", sound=noise, rate=RATE, channels=2)
    np.testing.assert_allclose(decode_audio(path, RATE), noise.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(("extension", "video", "audio"), [("mp3", None, "libmp3lame"), ("flv", "flv", "libmp3lame"),
    ("flv", None, "aac"), ("wav", None, "pcm_s16le"), ("avi", "mpeg4", "pcm_s16le"), ("aiff", None, "pcm_s16be"),
    ("au", None, "pcm_s16be"), ("flac", None, "flac")])  # fmt: skip
@pytest.mark.parametrize("share", [1.0, 0.85, 0.5])
def test_a_file_that_is_cut_off_says_so(extension, video, audio, share, tmp_path):
    path = write_clip(tmp_path / f"clip.{extension}", video, audio, seconds=8, fps=6, rate=22050)
    data = path.read_bytes()
    path.write_bytes(data[: round(share * len(data))])
    if share == 1.0:  # warnings are errors
        assert len(decode_audio(path, RATE)) == pytest.approx(8 * RATE, abs=2000)
        return
    with pytest.warns(ClipWarning, match=rf"'clip.{extension}' is damaged or cut off: only a part of its sound"):
        assert len(decode_audio(path, RATE)) == pytest.approx(share * 8 * RATE, rel=0.15)


def test_a_file_that_does_not_tell_its_length_is_not_called_cut_off(tmp_path):
    write_clip(tmp_path / "clip.mp3", audio="libmp3lame", seconds=4, rate=22050, options={"write_xing": "0"})
    assert len(decode_audio(tmp_path / "clip.mp3", RATE)) == pytest.approx(4 * RATE, abs=2000)
    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", None))
        file.writeframes(bytes(2 * RATE))
    data = bytearray((tmp_path / "clip.wav").read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4  # as into a pipe
    (tmp_path / "clip.wav").write_bytes(data)
    assert len(decode_audio(tmp_path / "clip.wav", RATE)) == RATE
