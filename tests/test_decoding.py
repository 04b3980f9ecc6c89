import gc
import io
import os
import socket
import time
import warnings
import wave
from fractions import Fraction
from functools import lru_cache

import numpy as np
import pytest

av = pytest.importorskip("av")
soxr = pytest.importorskip("soxr")

from selfmm_hf.model import container_selfmm, decoding_selfmm, sound_selfmm  # noqa: E402
from selfmm_hf.model.decoding_selfmm import (  # noqa: E402
    ClipError,
    ClipFacts,
    ClipWarning,
    Deadline,
    clip_facts,
    decode_audio,
    decode_video,
    resample,
)

WIDTH, HEIGHT = 64, 48


@lru_cache
def voice(seconds, rate):
    """Harmonics of a gliding pitch in syllables, over faint noise: one sound, sampled at whatever rate."""
    times = np.arange(round(seconds * 96000)) / 96000
    phase = 2 * np.pi * (140 * times + 8 * np.sin(2 * np.pi * 0.7 * times))
    sound = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 40))
    sound *= 0.15 * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * times))
    sound += 0.001 * np.random.default_rng(0).normal(size=len(times))
    return soxr.resample(sound.astype(np.float32), 96000, rate, "VHQ")


def picture(number, size=(WIDTH, HEIGHT)):
    """A grey frame that tells its number, with a bright top left corner."""
    image = np.full((size[1], size[0], 3), 20 + 5 * number, np.uint8)
    image[: size[1] // 4, : size[0] // 4] = 250
    return image


def numbers(frames):
    """The numbers of pictures, by their lower right quarter."""
    middles = [frame[frame.shape[0] // 2 :, frame.shape[1] // 2 :].mean() for frame in frames]
    return [round((middle - 20) / 5) for middle in middles]


def write_clip(
    path, video=None, audio=None, seconds=2.0, fps=12, times=None, start=0.0, sound=None, rate=44100, channels=1,
    degrees=0, **options,
):  # fmt: skip
    """`video`, `audio`: encoders. `times`: of the frames, in seconds, instead of a steady `fps`."""
    if any(codec and codec not in av.codecs_available for codec in (video, audio)):
        pytest.skip(f"this PyAV cannot write {video}, {audio}")
    with av.open(path if hasattr(path, "write") else str(path), "w", **options) as container:
        if video:
            stream = container.add_stream(video, rate=fps)
            stream.width, stream.height, stream.bit_rate = WIDTH, HEIGHT, 4_000_000
            stream.pix_fmt = "yuvj420p" if video == "mjpeg" else "yuv420p"
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
        if audio:
            tones = container.add_stream(audio, rate=rate, layout="mono" if channels == 1 else "stereo")
            sound = voice(seconds, rate) if sound is None else sound
            sound = np.stack([sound] * channels) if sound.ndim == 1 else sound
            frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout=tones.layout.name)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start * rate)
        packets = []
        if video:
            for number, begin in enumerate(np.arange(round(seconds * fps)) / fps if times is None else times):
                image = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                base = Fraction(1, fps) if times is None else Fraction(1, 1000)
                image.time_base, image.pts = base, round((begin + start) / base)
                packets += stream.encode(image)
            packets += stream.encode()
        if audio:
            resampler = av.AudioResampler(
                tones.codec_context.format, tones.layout, rate, frame_size=tones.codec_context.frame_size or None
            )
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                packets += tones.encode(part)
            packets += tones.encode()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    if degrees:
        # The matrix in the track's header (tkhd): 7 * 4 bytes of unity before the width and height.
        cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1), -1: (None, None)}[degrees]
        turn = [-1, 0, 0, 1] if degrees == -1 else [cosine, sine, -sine, cosine]
        one = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4")
        turned = one.copy()
        turned[[0, 1, 3, 4]] = np.array(turn) * (1 << 16)
        data = path.read_bytes()
        at = data.index(one.tobytes(), data.index(b"tkhd"))
        path.write_bytes(data[:at] + turned.tobytes() + data[at + len(turned.tobytes()) :])
    return path


CONTAINERS = [
    ("mp4", "libx264", "aac"),
    ("mp4", "mpeg4", "aac"),
    ("mov", "mjpeg", "pcm_s16le"),
    ("mkv", "mpeg4", "flac"),
    ("webm", "libvpx", "libopus"),
    ("avi", "mpeg4", "pcm_s16le"),
    ("ts", "libx264", "aac"),
]


@pytest.mark.parametrize(("extension", "video", "audio"), CONTAINERS)
def test_sound_and_picture_are_the_same_in_every_container(extension, video, audio, tmp_path):
    rate = 48000
    path = write_clip(tmp_path / f"clip.{extension}", video, audio, rate=rate)
    facts = clip_facts(path)
    assert facts.has_audio and facts.has_video
    assert (facts.sampling_rate, facts.width, facts.height) == (rate, WIDTH, HEIGHT)
    assert facts.frame_rate == pytest.approx(12)
    assert facts.duration == pytest.approx(2, abs=0.1)

    frames = list(decode_video(path, 12))
    assert {(frame.shape, frame.dtype) for frame in frames} == {((HEIGHT, WIDTH, 3), np.dtype(np.uint8))}
    assert numbers(frames) == list(range(24))
    assert numbers(decode_video(path, 5)) == [0, 2, 4, 7, 9, 12, 14, 16, 19, 21]
    assert numbers(decode_video(path, 24)) == [number // 2 for number in range(48)]

    samples = decode_audio(path, 16000)
    assert samples.dtype == np.float32 and samples.ndim == 1
    assert len(samples) == pytest.approx(32000, abs=1000)  # lossy codecs fill their last frame
    expected = soxr.resample(voice(2, rate), rate, 16000, "HQ")
    lossless = audio in ("flac", "pcm_s16le")
    delay = 0 if lossless else np.correlate(samples[8000:25000], expected[9000:24000]).argmax() - 1000
    assert abs(delay) <= (0 if extension != "ts" else 1024)  # MPEG-TS does not tell the encoder's priming
    error = samples[8000 + delay : 24000 + delay] - expected[8000:24000]
    assert np.sqrt((error**2).mean()) < (2e-4 if lossless else 0.2 * np.sqrt((expected**2).mean()))


@pytest.mark.parametrize(("extension", "video", "audio", "rate"), [("webm", None, "libopus", 48000),
    ("webm", "libvpx", "libopus", 48000), ("ogg", None, "libopus", 48000), ("mp4", None, "libopus", 48000),
    ("mkv", "mpeg4", "aac", 44100), ("mkv", None, "libmp3lame", 44100), ("mkv", "mpeg4", "ac3", 44100),
    ("mp4", None, "aac", 44100), ("mp4", "libx264", "aac", 48000), ("mp4", "libx264", "libmp3lame", 44100),
    ("mov", "mpeg4", "aac", 44100), ("mp3", None, "libmp3lame", 44100), ("mp3", None, "libmp3lame", 48000),
    ("ogg", None, "flac", 44100), ("avi", "mpeg4", "pcm_s16le", 44100)])  # fmt: skip
def test_sound_is_where_its_source_has_it(extension, video, audio, rate, tmp_path):
    """To the sample, from the first to the last: priming is left out, and rounded times neither cut nor add."""
    path = write_clip(tmp_path / f"clip.{extension}", video, audio, seconds=6, fps=5, rate=rate)
    sound, source = decode_audio(path, rate), voice(6, rate)
    for begin in (0, rate // 10, 3 * rate, len(source) - rate // 5):
        part, first = source[begin : begin + rate // 10], max(begin - 1200, 0)
        stretches = np.lib.stride_tricks.sliding_window_view(sound[first : begin + len(part) + 1200], len(part))
        late = first + ((stretches - part) ** 2).sum(axis=1).argmin() - begin
        assert late == 0, f"at {begin / rate:.1f} s"


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
def test_sound_is_that_of_a_resampler_that_sees_it_whole(rate, tmp_path):
    path = write_clip(tmp_path / "clip.wav", audio="pcm_f32le", rate=rate, seconds=1.37)
    sound = voice(1.37, rate)
    expected = sound if rate == 22050 else soxr.resample(sound, rate, 22050, "HQ")
    found = decode_audio(path, 22050)
    assert len(found) == -(-len(sound) * 22050 // rate)
    np.testing.assert_allclose(found[: len(expected)], expected[: len(found)], atol=1e-6)


@pytest.mark.parametrize(("channels", "copies"), [(1, 1), (2, 2)])
def test_sound_is_in_memory_once_for_each_column(channels, copies, tmp_path, peak_memory):
    path = write_clip(tmp_path / "clip.wav", audio="pcm_s16le", rate=22050, seconds=15, channels=channels)
    size = 4 * 15 * 22050
    assert peak_memory(decode_audio, path, 22050) < (copies + 0.3) * size
    if channels == 1:
        assert peak_memory(resample, voice(15, 44100), 44100, 22050) < 1.3 * size


@pytest.mark.filterwarnings("ignore:'(aifc|audioop|sunau)' is deprecated:DeprecationWarning")  # audioread
def test_sound_is_that_of_librosa_load(tmp_path):
    librosa = pytest.importorskip("librosa")
    sound = np.stack([voice(1, 44100), 0.5 * voice(1, 44100)[::-1]])
    path = write_clip(tmp_path / "clip.flac", audio="flac", sound=sound, channels=2)
    np.testing.assert_allclose(decode_audio(path, 22050), librosa.load(path)[0], atol=1e-6)


@pytest.mark.parametrize(("codec", "step"), [("pcm_u8", 2**-7), ("pcm_s16le", 2**-15), ("pcm_s24le", 2**-22),
                                             ("pcm_s32le", 2**-22), ("pcm_f64le", 1e-7)])  # fmt: skip
def test_channels_are_averaged_and_integers_scaled(codec, step, tmp_path):
    sound = np.stack([voice(0.5, 22050), np.full(11025, 0.25, np.float32)])
    path = write_clip(tmp_path / "clip.wav", audio=codec, sound=sound, rate=22050, channels=2)
    np.testing.assert_allclose(decode_audio(path, 22050), sound.mean(axis=0), atol=step)


def test_samples_that_are_not_finite_become_silence(tmp_path):
    sound = np.array([0.5, np.nan, -0.5, np.inf, -np.inf, 3e38, 0.25], np.float32)
    found = decode_audio(write_clip(tmp_path / "clip.wav", audio="pcm_f32le", sound=sound, rate=22050), 22050)
    np.testing.assert_array_equal(found, [0.5, 0, -0.5, 0, 0, 2.0**31, 0.25])


def test_variable_frame_rate_holds_the_earlier_frame(tmp_path):
    times = [0, 0.1, 0.5, 0.55, 1.2, 1.3]
    path = write_clip(tmp_path / "clip.mkv", "mpeg4", times=times)
    frames = list(decode_video(path, 10))
    assert numbers(frames)[:14] == [0, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3, 4, 5]
    assert frames[1] is frames[4]  # held: the very same array
    assert numbers(decode_video(path, 1)) == [0, 3]


@pytest.mark.parametrize("extension", ["mkv", "ts", "mp4"])
def test_the_clock_starts_with_the_first_frame(extension, tmp_path):
    path = write_clip(tmp_path / f"clip.{extension}", "mpeg4", "aac", start=7.25, seconds=1)
    assert numbers(decode_video(path, 12)) == list(range(12))
    assert len(decode_audio(path, 16000, max_seconds=2)) == pytest.approx(16000, abs=1200)


@pytest.mark.parametrize(("degrees", "shape", "corner"), [(90, (WIDTH, HEIGHT), (0, -1)), (180, (HEIGHT, WIDTH),
    (-1, -1)), (270, (WIDTH, HEIGHT), (-1, 0)), (-1, (HEIGHT, WIDTH), (0, -1))])  # fmt: skip
def test_frames_are_turned_upright(degrees, shape, corner, tmp_path):
    """Degrees clockwise, as cameras write them; -1: mirrored."""
    frame = next(decode_video(write_clip(tmp_path / "clip.mp4", "libx264", degrees=degrees), 12))
    assert frame.shape == (*shape, 3) and frame.flags.c_contiguous
    assert frame[corner].mean() > 200
    corners = [frame[row, column].mean() > 200 for row in (0, -1) for column in (0, -1)]
    assert sum(corners) == 1


def write_changing_sizes(path, sizes):
    """Motion JPEG at 10 frames/s, each of a size of its own."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        stream.codec_context.open()
        for number, size in enumerate(sizes):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = *size, "yuvj420p", Fraction(1, 10)
            image = av.VideoFrame.from_ndarray(picture(number, size), format="rgb24").reformat(format="yuvj420p")
            (data,) = [*encoder.encode(image), *encoder.encode()]
            packet = av.Packet(bytes(data))
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 10), True
            packet.pts = packet.dts = number
            container.mux(packet)


def test_frame_size_may_change(tmp_path):
    path, sizes = tmp_path / "clip.avi", [(WIDTH, HEIGHT)] * 3 + [(32, 80)] * 3
    write_changing_sizes(path, sizes)
    frames = list(decode_video(path, 10))
    assert [frame.shape[1::-1] for frame in frames] == sizes
    assert numbers(frames) == list(range(6))


def test_the_shortest_clip(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", "mpeg4", seconds=1 / 12)
    assert numbers(decode_video(path, 10)) == [0]
    for rate, count in ((1, 22050), (22050, 1), (10_000_000, 1)):
        with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", None))
            file.writeframes(b"\1\1")
        assert len(decode_audio(tmp_path / "clip.wav", 22050)) == count


@pytest.mark.parametrize("channels", [6, 8])
def test_any_number_of_channels_is_averaged(channels, tmp_path):
    sound = (np.arange(1, channels + 1) * 1000).astype("<i2")
    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:
        file.setparams((channels, 2, 16000, 0, "NONE", None))
        file.writeframes(np.tile(sound, 1600).tobytes())
    np.testing.assert_allclose(decode_audio(tmp_path / "clip.wav", 16000), sound.mean() / 2**15, atol=1e-7)


def test_a_cover_is_no_video(tmp_path):
    path = tmp_path / "song.mp3"
    if "libmp3lame" not in av.codecs_available:
        pytest.skip("this PyAV cannot write MP3")
    with av.open(str(path), "w") as container:
        tones, cover = container.add_stream("libmp3lame", rate=44100), container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        image = av.VideoFrame.from_ndarray(picture(3), format="rgb24").reformat(format="yuvj420p")
        frame = av.AudioFrame.from_ndarray(voice(1, 44100)[None], format="fltp", layout="mono")
        frame.sample_rate, image.pts, frame.pts = 44100, 0, 0
        for packet in [*cover.encode(image), *cover.encode(), *tones.encode(frame), *tones.encode()]:
            container.mux(packet)
    assert clip_facts(path).has_video is False
    assert list(decode_video(path, 10)) == []
    assert len(decode_audio(path, 16000)) == pytest.approx(16000, abs=1200)


def test_clips_without_sound_or_picture(tmp_path):
    silent = write_clip(tmp_path / "silent.mp4", "libx264")
    assert decode_audio(silent, 16000) is None
    facts = ClipFacts(2.0, has_audio=False, has_video=True, frame_rate=12.0, width=WIDTH, height=HEIGHT)
    assert clip_facts(silent) == facts
    sound = write_clip(tmp_path / "sound.wav", audio="pcm_s16le")
    assert list(decode_video(sound, 10)) == []
    assert clip_facts(sound) == ClipFacts(2.0, has_audio=True, has_video=False, sampling_rate=44100)
    with wave.open(str(tmp_path / "empty.wav"), "wb") as empty:
        empty.setparams((1, 2, 16000, 0, "NONE", None))
    assert decode_audio(tmp_path / "empty.wav", 16000) is None
    with pytest.raises(ClipError, match=r"neither sound nor picture"):
        clip_facts(subtitles(tmp_path / "words.mkv"))


def subtitles(path):
    """A Matroska file that holds nothing else, written by hand."""

    def element(name, *parts):
        body = b"".join(parts)
        return bytes.fromhex(name) + (len(body) | 1 << 56).to_bytes(8, "big") + body

    track = element("AE", element("D7", b"\1"), element("73C5", b"\1"), element("83", b"\x11"),
                    element("86", b"S_TEXT/UTF8"))  # fmt: skip
    header, cluster = element("1A45DFA3", element("4282", b"matroska")), element("1F43B675", element("E7", b"\0"))
    path.write_bytes(header + element("18538067", element("1549A966"), element("1654AE6B", track), cluster))
    return path


def test_files_that_are_no_clips(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("I am a film\n" * 1000)
    (tmp_path / "text.mp3").write_text("I am a song\n" * 1000)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(50000))
    (tmp_path / "page.webm").write_text("<html>404 Not Found</html>")
    Image = pytest.importorskip("PIL.Image")
    Image.fromarray(picture(1)).save(tmp_path / "photo.mp4", format="png")
    Image.fromarray(picture(1)).save(tmp_path / "photo.jpg")
    os.mkfifo(tmp_path / "pipe.mp4")
    cases = {
        "missing.mp4": "there is no local file 'missing.mp4'; check the path", ".": "is a folder or a device",
        "empty.mp4": r"'empty.mp4' is empty \(0 bytes\)", "pipe.mp4": "is a folder or a device",
        **dict.fromkeys(
            ["text.mp4", "text.mp3", "noise.mp4", "page.webm", "photo.mp4", "photo.jpg"],
            "is not a sound or video file|can be decoded|neither sound",
        ),
    }  # fmt: skip
    for name, message in cases.items():
        for decode in (clip_facts, lambda path: decode_audio(path, 16000), lambda path: list(decode_video(path, 10))):
            if (name, decode) == ("text.mp3", clip_facts):
                continue
            with pytest.raises(ClipError, match=message) as caught:
                decode(tmp_path / name)
            assert str(tmp_path) not in str(caught.value)  # an upload's folder is nobody's business
    with pytest.raises(ClipError, match=r"no local file 'clip.mp4'; download it first"):
        clip_facts("https://example.org/clip.mp4")
    with pytest.raises(ClipError, match=r"no local file 'a\\x00b.mp4'"):
        clip_facts("a\0b.mp4")


def test_playlists_and_addresses_are_refused(tmp_path, monkeypatch):
    """None of them may make FFmpeg open what the file names: another file, or an address."""
    clip = write_clip(tmp_path / "clip.ts", "mpeg4", "aac")
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/clip.ts"
        playlists = {
            "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXT-X-VERSION:3\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n",
            "concat": "ffconcat version 1.0\nfile {}\n",
            "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
            'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period>'
            '<AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1"><BaseURL>{}</BaseURL>'
            "</Representation></AdaptationSet></Period></MPD>",
            "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\na=x:{}\n",
        }
        for name, text in playlists.items():
            for target in (clip.name, str(clip), "/etc/passwd", address, f"concat:{clip.name}"):
                for extension in ("mp4", "m3u8", "ts", "txt"):
                    path = tmp_path / f"{name}.{extension}"
                    path.write_text(text.format(target))
                    with pytest.raises(ClipError, match=f"'{path.name}' is not a sound or video file"):
                        clip_facts(path)
        for name in (f"concat:{clip.name}|{clip.name}", f"subfile,,start,0,end,0,,:{clip.name}", address, "pipe:0",
                     f"file:{clip.name}", f"crypto:{clip.name}", "lavfi", "data:text/plain,x"):  # fmt: skip
            with pytest.raises(ClipError, match=r"no local file"):
                clip_facts(name)
        with pytest.raises(TimeoutError):
            server.accept()


@pytest.mark.parametrize("name", ["a b;touch hacked;$(touch hacked) `touch hacked` & 'x' \"y\".mp4", "-i.mp4",
    "é 中文 🎬.mp4", "http:clip.mp4", "concat:a|b.mp4", "%d %03d.mp4", "x?y#z.mp4", "line\nbreak.mp4", b"\xff\xfe.mp4",
    ".mp4", "n" * 250 + ".mp4"])  # fmt: skip
def test_any_file_name_will_do(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written = write_clip(tmp_path / "plain.mp4", "libx264", "aac", seconds=0.5)
    os.rename(written, name)
    for path in (name, os.path.join(os.getcwdb() if isinstance(name, bytes) else os.getcwd(), name)):
        assert clip_facts(path).has_audio
        assert len(decode_audio(path, 16000)) > 7000
        assert numbers(decode_video(path, 12)) == list(range(6))
    os.truncate(name, 0)
    with pytest.raises(ClipError, match=r"is empty") as caught:
        clip_facts(name)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()
    assert len(os.listdir()) == 1


@pytest.mark.parametrize(("extension", "video", "audio"), [("mkv", "mpeg4", "flac"), ("mp4", "libx264", "aac")])
def test_a_cut_off_file_gives_what_is_there(extension, video, audio, tmp_path):
    index_first = {"movflags": "faststart"} if extension == "mp4" else {}
    path = write_clip(tmp_path / f"clip.{extension}", video, audio, seconds=6, fps=6, rate=8000, options=index_first)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.warns(ClipWarning, match=rf"'clip.{extension}' is damaged or cut off: only a part of its sound"):
        assert 16000 < len(decode_audio(path, 16000)) < 80000
    with pytest.warns(ClipWarning, match=r"only a part of its picture is used"):
        found = numbers(decode_video(path, 6))
    assert 10 < len(found) < 30 and found[:10] == list(range(10))


def test_a_cut_off_mp4(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", "libx264", "aac")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])  # its index is at its end
    with pytest.raises(
        ClipError, match=r"'clip.mp4' is not a sound or video file .* or it is damaged or cut off; copy it"
    ):
        decode_audio(path, 16000)
    media = whole.index(b"mdat") + 4
    size = int.from_bytes(whole[media - 8 : media - 4], "big") - 8
    path.write_bytes(whole[:media] + bytes(size) + whole[media + size :])  # whole, but nothing in it
    with (
        pytest.raises(ClipError, match=r"nothing of the picture of 'clip.mp4' can be decoded"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", ClipWarning)
        list(decode_video(path, 10))


def test_damage_in_the_middle_is_left_out(tmp_path):
    path = write_clip(tmp_path / "clip.flac", audio="flac", seconds=4, rate=16000)
    data = bytearray(path.read_bytes())
    for at in range(len(data) // 3, len(data) // 2, 7):
        data[at] ^= 0x55
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClipWarning)  # not every version of FFmpeg finds all of it
        samples = decode_audio(path, 16000)
    assert 16000 < len(samples) <= 64000 and np.isfinite(samples).all()


def test_unknown_encodings(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", "libx264", "aac")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"avc1", b"yyyy"))
    with pytest.raises(ClipError, match=r"'clip.mp4' has a picture in an unknown encoding; convert it"):
        next(decode_video(path, 10))
    assert len(decode_audio(path, 16000)) > 30000
    assert clip_facts(path).width is None


def test_long_clips_are_refused_at_once(tmp_path):
    path = write_clip(tmp_path / "silent.flac", audio="flac", sound=np.zeros((1, 7200 * 1000), np.float32), rate=1000)
    begin = time.process_time()
    for decode in (decode_audio, lambda *options: list(decode_video(*options))):
        with pytest.raises(
            ClipError, match=r"'silent.flac' lasts 7200.0 s, longer than the 60 s that are allowed; cut"
        ):
            decode(path, 22050, 60)
    assert time.process_time() - begin < 0.5
    assert clip_facts(path).duration == pytest.approx(7200)


class Pipe(io.RawIOBase):
    """What cannot be sought in, so that no duration can be written: as browsers record."""

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data)
        return len(data)


def test_clips_that_do_not_tell_their_duration(tmp_path):
    pipe, path = Pipe(), tmp_path / "recording.webm"
    write_clip(pipe, "libvpx", "libopus", seconds=3, rate=48000, format="webm")
    path.write_bytes(pipe.data)
    assert clip_facts(path).duration == pytest.approx(3, abs=0.1)
    assert len(decode_audio(path, 16000, max_seconds=3)) == pytest.approx(48000, abs=500)
    assert numbers(decode_video(path, 12, max_seconds=3)) == list(range(36))
    with pytest.raises(ClipError, match=r"'recording.webm' is longer than the 1.5 s that are allowed"):
        decode_audio(path, 16000, max_seconds=1.5)
    seen = 0
    with pytest.raises(ClipError, match=r"'recording.webm' is longer than the 1.5 s that are allowed"):
        for _ in decode_video(path, 12, max_seconds=1.5):
            seen += 1
    assert seen <= 22


def test_a_frame_that_is_held_for_hours_does_not_fill_the_disk(tmp_path):
    pipe, path = Pipe(), tmp_path / "held.mkv"
    write_clip(pipe, "mpeg4", times=[0, 0.1, 7200], format="matroska")
    path.write_bytes(pipe.data)
    seen = 0
    with pytest.raises(ClipError, match=r"'held.mkv' is longer than the 5 s"):
        for _ in decode_video(path, 10, max_seconds=5):
            seen += 1
    assert seen < 60


def test_huge_frames_are_refused(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.mp4", "libx264")
    with monkeypatch.context() as patch:
        patch.setattr(container_selfmm, "MAX_ASPECT_RATIO", 1.3)
        with pytest.raises(ClipError, match=r"'clip.mp4' has a picture of 64 x 48 pixels; crop it"):
            next(decode_video(path, 10))
        patch.setattr(container_selfmm, "MAX_PIXELS", WIDTH * HEIGHT - 1)
        with pytest.raises(ClipError, match=r"'clip.mp4' has a picture of 64 x 48 pixels; scale it down"):
            next(decode_video(path, 10))
    fast = write_clip(tmp_path / "fast.mp4", "mpeg4", fps=1000, seconds=0.045)
    assert len(list(decode_video(fast, 100))) == 5
    monkeypatch.setattr(decoding_selfmm, "MAX_PIXEL_RATE", 40 * WIDTH * HEIGHT)
    assert len(list(decode_video(path, 12))) == 24
    with pytest.raises(ClipError, match=r"'fast.mp4' has more frames per second than can be read; lower"):
        list(decode_video(fast, 100))


@pytest.mark.parametrize(("extension", "decoded"), [("mp4", 0), ("mkv", 10)])  # Matroska does not count its frames
def test_clips_of_too_many_pixels_are_refused(extension, decoded, tmp_path, monkeypatch):
    path, seen = write_clip(tmp_path / f"clip.{extension}", "mpeg4", seconds=2.0, fps=12), 0
    monkeypatch.setattr(container_selfmm, "MAX_CLIP_PIXELS", 24 * WIDTH * HEIGHT)
    assert len(list(decode_video(path, 12))) == 24
    monkeypatch.setattr(container_selfmm, "MAX_CLIP_PIXELS", 10 * WIDTH * HEIGHT)
    with pytest.raises(
        ClipError, match=rf"^'clip.{extension}' has more than .* billion pixels in all its frames; scale"
    ):
        for _ in decode_video(path, 12):
            seen += 1
    assert seen in (decoded, max(decoded - 1, 0))  # the last one is shown when the next one comes


def test_a_deadline_is_looked_at_between_frames(tmp_path):
    path = write_clip(tmp_path / "clip.mp4", "mpeg4", "aac")
    late, passed = Deadline(3600), Deadline(30)
    assert numbers(decode_video(path, 12, deadline=late)) == list(range(24))
    assert np.array_equal(decode_audio(path, 8000, deadline=late), decode_audio(path, 8000))
    frames = decode_video(path, 12, deadline=passed)
    next(frames)
    passed.end = time.monotonic() - 1
    message = r"^'clip.mp4' takes longer to read than the 30 s that are allowed; cut it, or scale it down$"
    with pytest.raises(ClipError, match=message):
        list(frames)
    with pytest.raises(ClipError, match=message):
        decode_audio(path, 8000, deadline=passed)


def test_frames_leave_no_threads_and_no_garbage(tmp_path):
    """A frame that waits for the garbage collector keeps its memory, and what converted it keeps threads."""
    path = write_clip(tmp_path / "clip.mp4", "libx264", degrees=90)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        before, most = threads(), 0
        for _ in decode_video(path, 12):
            most = max(most, threads())
        assert most - before <= os.cpu_count() and threads() == before
        gc.collect()
        assert not any(isinstance(one, av.VideoFrame) for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def threads():
    """Of this process, those of libraries included."""
    return len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 0


def test_files_are_closed(tmp_path):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    path = write_clip(tmp_path / "clip.mp4", "libx264", "aac")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        decode_audio(path, 16000)
        frames = decode_video(path, 10)
        next(frames)
        frames.close()
        with pytest.raises(ClipError):
            decode_audio(path, 16000, max_seconds=0.5)
    assert len(os.listdir("/proc/self/fd")) == before


def test_options_out_of_range_and_missing_packages(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "clip.wav", audio="pcm_s16le")
    with pytest.raises(ValueError, match=r"sampling_rate is 0"):
        decode_audio(path, 0)
    for rate in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"frame_rate is"):
            next(decode_video(path, rate))
    monkeypatch.setattr(sound_selfmm, "soxr", None)
    with pytest.raises(ImportError, match="pip install soxr"):
        decode_audio(path, 16000)
    monkeypatch.setattr(container_selfmm, "av", None)
    for decode in (clip_facts, lambda path: decode_audio(path, 16000), lambda path: next(decode_video(path, 10))):
        with pytest.raises(ImportError, match=r"pip install 'av>=17\.1'"):
            decode(path)


def test_real_clips(shared):
    facts = clip_facts(shared / "data" / "clips" / "obama_speech.mp4")
    assert (facts.sampling_rate, facts.width, facts.height) == (24000, 320, 240)
    assert facts.duration == pytest.approx(8.71, abs=0.05)
    assert len(list(decode_video(shared / "data" / "clips" / "obama_speech.mp4", 10))) == pytest.approx(87, abs=1)
    for name, seconds in (("obama_speech.mp4", 8.71), ("jfk.flac", 11.0)):
        samples = decode_audio(shared / "data" / "clips" / name, 22050, max_seconds=12)
        assert len(samples) / 22050 == pytest.approx(seconds, abs=0.05)
        assert 0.01 < samples.std() < 0.5


def remux(source, path):
    """The same packets in another container."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        for packet in old.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return path


@pytest.mark.parametrize("extension", ["mov", "mkv", "ts", "mp4"])
def test_features_are_those_of_the_same_clip_in_another_container(extension, tmp_path, monkeypatch):
    """`SelfMMFeatureExtractor` states the tolerances of this test and the next two."""
    for package in ("ai_edge_litert", "librosa"):
        pytest.importorskip(package)
    from test_face_landmarks import draw_face

    from selfmm_hf.model.feature_extraction_selfmm import SelfMMFeatureExtractor

    monkeypatch.setattr("test_decoding.picture", lambda number: draw_face(smile=number / 12, size=128))
    monkeypatch.setattr("test_decoding.WIDTH", 128)
    monkeypatch.setattr("test_decoding.HEIGHT", 128)
    path = write_clip(tmp_path / "clip.mp4", "libx264", "aac", seconds=1.5)
    extractor = SelfMMFeatureExtractor()
    expected, absent = extractor.extract(path)
    assert absent == {} and (expected["vision"][:, 0] == 1).all()
    found, _ = extractor.extract(remux(path, tmp_path / f"other.{extension}"))
    np.testing.assert_allclose(found["vision"], expected["vision"], atol=1e-5)
    if extension in ("mov", "mp4"):
        np.testing.assert_allclose(found["audio"], expected["audio"], atol=1e-5)
    else:  # up to 1024 samples of priming more at 44.1 kHz, one frame of 512 at 22.05 kHz, and likewise at the end
        more = len(found["audio"]) - len(expected["audio"])
        assert more in ((0, 1) if extension == "mkv" else (1, 2))  # FFmpeg 9 trims them where the container tells them
        inner = expected["audio"][2:-2]
        errors = np.abs(found["audio"][2 + min(more, 1) :][: len(inner)] - inner) / expected["audio"].std(axis=0)
        assert errors.mean() < 0.05


@pytest.fixture(scope="module")
def speaker(shared, tmp_path_factory):
    """Makes a clip of a speaker, and computes the features of the face in it; with those of a lossless one."""
    pytest.importorskip("ai_edge_litert")
    from selfmm_hf.model.vision_features_selfmm import FaceFeatures

    pictures = list(decode_video(shared / "data" / "clips" / "obama_speech.mp4", 60))[:240]

    def features(path, codec, rate):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("test_decoding.WIDTH", 320)
            patch.setattr("test_decoding.HEIGHT", 240)
            patch.setattr("test_decoding.picture", lambda number: pictures[number * 60 // rate])
            write_clip(path, codec, seconds=4.0, fps=rate)
        return FaceFeatures()(decode_video(path, 10))[0]

    return features, features(tmp_path_factory.mktemp("reference") / "clip.mkv", "ffv1", 60)


@pytest.mark.parametrize(("extension", "codec", "rate"), [("mkv", "ffv1", 30),
    ("mp4", "libx264", 60), ("webm", "libvpx", 30), ("avi", "mpeg4", 60), ("mp4", "libx264", 30),
    ("mp4", "libx264", 25), ("mp4", "libx264", 24)])  # fmt: skip
def test_features_agree_across_encodings_and_frame_rates(extension, codec, rate, shared, speaker, tmp_path):
    from selfmm_hf.model.vision_features_selfmm import EXPRESSION_COLUMNS

    features, expected = speaker
    found = features(tmp_path / f"clip.{extension}", codec, rate)
    assert found.shape == expected.shape and (found[:, 0] == expected[:, 0]).all()
    if codec == "ffv1":
        np.testing.assert_allclose(found, expected, atol=1e-5)
        return
    spread, columns = expected.std(axis=0)[1:], len(EXPRESSION_COLUMNS)
    errors = np.abs(found - expected)[:, 1:] / spread
    assert errors[:, :columns].mean() < 0.3 and errors[:, columns:].mean() < 0.6
    assert (np.abs(found.mean(axis=0) - expected.mean(axis=0))[1:] / spread).max() < 0.3


@pytest.mark.parametrize(("extension", "audio", "rate", "channels"), [("wav", "pcm_s16le", 44100, 1),
    ("wav", "pcm_s16le", 44100, 2), ("wav", "pcm_f32le", 22050, 1), ("wav", "pcm_s16le", 48000, 1),
    ("flac", "flac", 48000, 2), ("mkv", "flac", 24000, 1), ("wav", "pcm_s16le", 16000, 1), ("mp4", "aac", 44100, 1),
    ("mp4", "aac", 48000, 2), ("mp3", "libmp3lame", 44100, 1), ("webm", "libopus", 48000, 1)])  # fmt: skip
def test_features_agree_across_codecs_and_sampling_rates(
    extension, audio, rate, channels, shared, tmp_path, monkeypatch
):
    librosa = pytest.importorskip("librosa")
    from selfmm_hf.model.audio_features_selfmm import librosa33

    speech = decode_audio(shared / "data" / "clips" / "jfk.flac", 44100)[: 6 * 44100]
    if rate < 22050:  # what such a file cannot hold is not compared
        speech = soxr.resample(soxr.resample(speech, 44100, rate, "VHQ"), rate, 44100, "VHQ")
    expected = soxr.resample(speech, 44100, 22050, "HQ")
    reference = librosa33(expected)
    sound = speech if rate == 44100 else soxr.resample(speech, 44100, rate, "VHQ")
    path = write_clip(tmp_path / f"a.{extension}", audio=audio, sound=sound, rate=rate, channels=channels)
    lossless = audio not in ("aac", "libopus", "libmp3lame")
    if not lossless:  # may tip the estimate of the clip's tuning, by which all its chroma move
        tuning = librosa.estimate_tuning(y=expected, sr=22050, bins_per_octave=36)
        monkeypatch.setattr("selfmm_hf.model.audio_features_selfmm._tuning", lambda *_: tuning)
    found = librosa33(decode_audio(path, 22050))
    assert abs(len(found) - len(reference)) <= (0 if lossless else 3)
    frames = min(len(found), len(reference))
    errors = np.abs(found[:frames] - reference[:frames]) / reference.std(axis=0)
    assert errors[:, 0].mean() < (0.1 if lossless else 0.15)
    if lossless:
        assert errors[:, 1:].max() < (0.1 if rate >= 22050 else 0.3) and errors[:, 1:].mean() < 0.005
    else:
        assert errors[:, 1:21].mean() < 0.12 and errors[:, 21:].mean() < 0.08


def test_chroma_of_another_tuning_are_this_far_off(shared, monkeypatch):
    """The tuning of speech is the peak of a nearly even histogram: another encoding moves it anywhere."""
    pytest.importorskip("librosa")
    from selfmm_hf.model.audio_features_selfmm import librosa33

    speech = decode_audio(shared / "data" / "clips" / "jfk.flac", 22050)[: 6 * 22050]
    monkeypatch.setattr("selfmm_hf.model.audio_features_selfmm._tuning", lambda *_: -0.5)
    lowest = librosa33(speech)
    monkeypatch.setattr("selfmm_hf.model.audio_features_selfmm._tuning", lambda *_: 0.49)
    errors = np.abs(librosa33(speech) - lowest)
    assert (errors[:, :21] == 0).all()
    assert 0.4 < (errors / lowest.std(axis=0))[:, 21:].mean() < 0.5
