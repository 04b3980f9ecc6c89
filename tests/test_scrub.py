"""Nothing that is published says where files lay, who has an account where, or opens doors."""

import json
import shlex
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from selfmm_hf.storage.scrub import holds_token, private, scrub

ROOT = Path(__file__).resolve().parents[1]
MARK = "Zq7"  # in every part that is nobody's business

words = st.text("abcxyzéß文0123456789_-+", min_size=1, max_size=6)
folders = st.builds(
    lambda before, joint, after: f"{before}{joint}{MARK}{after}",
    words,
    st.sampled_from([" ", "", ".", "'", ", "[:1], " (", "&", "@", "%20", "$"]),
    st.one_of(words, words.map(lambda one: f" {one}"), words.map(lambda one: f" of {one}")),
).map(lambda name: name + ")" * name.count("("))
names = st.builds(lambda stem, ending: f"{stem}.{ending}", words, st.sampled_from(["pkl", "csv", "safetensors"]))
users = st.text("abcxyz0123456789_-.", max_size=6).map(lambda rest: f"j{MARK}{rest}".rstrip("."))


@st.composite
def paths(draw):
    below = draw(st.lists(folders, min_size=0, max_size=3))
    user, name = draw(users), draw(names)
    posix, windows = "/".join([*below, name]), "\\".join([*below, name])
    return draw(
        st.sampled_from(
            [
                f"/home/{user}/{posix}", f"/Users/{user}/{posix}", f"/data/{user}/{posix}", f"~{user}/{posix}",
                f"/mnt/{user}//{posix}", f"../{user}/{posix}", f"{user}@{user}.org:/srv/{posix}",
                f"C:\\Users\\{user}\\{windows}", f"d:/{user}/{posix}", f"\\\\{user}\\share\\{windows}",
                f"\\\\?\\C:\\{user}\\{windows}", f"..\\{user}\\{windows}", f"//{user}/share/{posix}",
                f"file:///home/{user}/{quote(posix)}", f"file://{user}/share/{quote(posix)}",
                f"file:///C:/Users/{user}/{quote(posix)}", f"sftp://{user}@{user}.org/{quote(posix)}",
                f"git+file:///home/{user}/{quote(posix)}",
            ]
        )
    )  # fmt: skip


secrets = st.sampled_from(
    [
        f"https://{MARK}:{MARK}@a.org/b", f"https://{MARK}@a.org/b", f"http://u:p/{MARK}@a.org", f"s3://{MARK}:x@bucket/k",
        f"git+https://oauth2:{MARK}@a.org/b.git", f"https://a.org/b?token={MARK}&c=d", f"https://a.org/b?c=d&sig={MARK}",
        f"https://a.org/b?X-Amz-Credential={MARK}&X-Amz-Signature={MARK}#e", f"https://a.org/b#access_token={MARK}",
        f"postgresql://{MARK}:{MARK}@a.org:5432/b", f"https://a.org/b?api_key={MARK}", f"{MARK}:{MARK}@a.org/b",
        f"https://a.org/b?next=/home/{MARK}/x", f"hf_{MARK}{'aB3' * 11}", f"hf_{MARK}abcde",
        f"api_org_{MARK}{'b' * 31}", f"hf_oauth_{MARK}{'a' * 30}.x", f"hf_{'a' * 40}{MARK}",
        f"https://hf_{MARK}{'c' * 30}@huggingface.co/me/x",
    ]
)  # fmt: skip
AROUND = ["{}", "data: {}", "--data={}", "({})", "see {}", "[x]({})", "PATH={}", "<{}>", "| {} |", "`{}`", "see\n{}\n"]
NOTICES = ["{}: 1 files in audio belong to no id, first 'audio/x.npy'", "{}, split 'train': no words in 3 of 9 rows"]
often = settings(max_examples=100, deadline=None)


def whole(text):
    """What was found is gone, and what is left is left alone from then on."""
    scrubbed = scrub(text)
    assert MARK not in scrubbed and scrub(scrubbed) == scrubbed
    assert not holds_token(scrubbed) and not list(private(scrubbed))
    return scrubbed


@often
@given(
    paths(), st.sampled_from(["{}", "data: {}", "--data={}", "({})", "see {}", "[x]({})", "PATH={}", "<{}>", "| {} |"])
)
def test_a_path_loses_its_folders(path, around):
    scrubbed = whole(around.format(path))
    assert scrubbed.startswith(around.partition("{}")[0])
    assert scrubbed.endswith(
        path.rpartition("." if "@" in path else "/")[2].rpartition("\\")[2] + around.partition("{}")[2]
    )


@often
@given(
    paths(),
    st.sampled_from(["{}: 1 files in audio belong to no id, first 'audio/x.npy'", "{}, split 'train': no words"]),
)
def test_what_a_notice_says_stays(path, notice):
    assert whole(notice.format(path)).endswith(notice.format(""))


@often
@given(paths(), paths(), secrets)
@example(rf"\\?\C:\j{MARK}\0.pkl", f"j{MARK}@j{MARK}.org:/srv/0.pkl", f"https://{MARK}:{MARK}@a.org/b")
def test_several_in_one_text(first, second, secret):
    whole(f"{first}\n{secret}, {second}: {secret}\n")
    whole(f'"{first}" and "{second}"; {secret}')
    whole(json.dumps({"a": first, "b": [second, secret]}))
    whole(f"{first}:{second} {secret}")


@often
@given(paths(), secrets)
def test_what_reads_json_yaml_and_commands_reads_them_still(path, secret):
    values = {"data": path, "other": secret, "seed": 1}
    assert json.loads(whole(json.dumps(values))).keys() == values.keys()
    text = whole(yaml.safe_dump(values, default_style='"', width=10_000))
    assert yaml.safe_load(text).keys() == values.keys()
    assume("'" not in path)
    assert len(shlex.split(whole(shlex.join(["--data", path, "--seed", "1"])))) == 4


@often
@given(secrets, st.sampled_from(["{}", "see {}.", "[x]({})", '"{}"', "token={}", "<{}>", "a:{}"]))
def test_what_opens_doors_goes(secret, around):
    whole(around.format(secret))


@often
@given(st.one_of(st.text(), st.text("/\\~.:@ '\"`()[]{}<>,;|=?&#%ab1-_\n"), st.text("/\\: @~.hfC_'\"")))
def test_any_text_is_settled_at_once(text):
    scrubbed = scrub(text)
    assert scrub(scrubbed) == scrubbed
    assert scrub(scrub(text, certain=True), certain=True) == scrub(text, certain=True)


@often
@given(st.sampled_from(["/home/{}/x", "C:\\Users\\{}\\x", "file:///{}/x", "https://{}:y@a.org"]), users)
def test_what_is_certain_is_found_in_anything(form, user):
    for around in ("{}", "a = '{}'  # b", "\x00\x01{}\x00", "-I{}", "x={}"):
        text = around.format(form.format(user))
        assert user not in scrub(text, certain=True)


@pytest.mark.parametrize(
    "text",
    [
        "1284 / 229 / 686", "and/or, w/o, n/a, km/h, +/-3, 1/2", "<b>x</b><br/>", "google-bert/bert-base-uncased",
        "https://github.com/thuiar/Self-MM/blob/master/a.py#L3", "[a](https://a.org/b_(c)), [d](docs/e.md)", "a/b.md",
        "datasets/me/mosi@main", "10.1109/x:y", "a@b.org", "hf_hub_download, selfmm_hf, HF_TOKEN, hf_xet, hf_transfer",
        "https://a.org:8080/@me/b?page=2&lang=en", "s3://bucket/key", r"\d+\.\w \\ \\n", "~100 of 3~4", "a\\b",
        "2:1, 12:30", "`/predict`",
    ],
)  # fmt: skip
def test_what_is_no_path_stays(text):
    assert scrub(text) == text


def test_what_we_publish_ourselves_is_left_as_it_is():
    telling = ("LICENSE", "src/selfmm_hf/model/face_networks/[LN]*", "spaces_demo/*.md", "hub_configs/metrics/*/*.md",
               "hub_configs/*.yaml", "hub_configs/cards/*")  # fmt: skip
    working = (
        "src/selfmm_hf/model/*_selfmm.py",
        "src/selfmm_hf/model/face_networks/*",
        "spaces_demo/*.*",
        "spaces_demo/*/*",
    )
    for file in (file for pattern in telling for file in ROOT.glob(pattern)):
        text = file.read_text(encoding="utf-8")
        assert list(private(text)) == [] and not holds_token(text), file
    for file in (file for pattern in working for file in ROOT.glob(pattern) if file.parent.name != "__pycache__"):
        assert list(private(file.read_bytes().decode("latin-1"), certain=True)) == [], file


def test_where_this_process_runs_is_known(tmp_path, monkeypatch):
    home, here = tmp_path / "o'brien, (x); y", tmp_path / "work [1]" / "a: b"
    for folder in (home, here):
        folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(here)
    monkeypatch.setenv("HF_TOKEN", "s3cr3t-of-another-kind")
    for certain in (False, True):
        for place in (home, here):
            text = f"it is {place}/x.pkl; {json.dumps(str(place))} xyz file://{quote(str(place))}/y"
            scrubbed = scrub(text, certain)
            assert "brien" not in scrubbed and "work" not in scrubbed and "x.pkl" in scrubbed, scrubbed
        assert scrub("log in by s3cr3t-of-another-kind", certain) == "log in by hf_***"
    assert holds_token("s3cr3t-of-another-kind") and scrub(str(home)) == "~"


def test_no_text_makes_it_search_without_end():
    parts = ("a", "/", "/a b", "a.b-c+", "hf_", "x:y@", "(", "'/a", "~a", "\\\\a", "/home/a", "://a@", "a://", "[a](")
    for part in parts:
        text = part * (100_000 // len(part))
        assert len(scrub(text)) <= len(text) and len(scrub(text, certain=True)) <= len(text)
