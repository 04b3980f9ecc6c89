"""The metadata of cards that anybody may have written."""

import pytest

from selfmm_hf.data.card import MOST_BYTES, MOST_LETTERS, CardError, parse_card, read_card

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "\n".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize("start", ["", "\ufeff", "\n"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_metadata(tmp_path, start, newline):
    file = tmp_path / "README.md"
    text = start + "---\nlicense: mit\nconfigs:\n- config_name: a\n---\n# Title\n---\nlicense: other\n---\n"
    file.write_bytes(text.replace("\n", newline).encode())
    assert read_card(file) == {"license": "mit", "configs": [{"config_name": "a"}]}


@pytest.mark.parametrize(
    "text", ["", "# Title\n", "---\nlicense: mit\n", "---\n\n---\n", "text\n---\nlicense: mit\n---\n"]
)
def test_no_metadata(text):
    assert parse_card(text) == {}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (BOMB, r"aliases are not read, got \*a"),
        ("a: &a {b: 1}\nc:\n  <<: *a", "aliases are not read"),
        ("a: [" + "x, " * MOST_LETTERS + "]", "letters of metadata, more than"),
        ("[" * (MOST_LETTERS - 1), "recursion"),
        ("a: " + "9" * (MOST_LETTERS - 4), "4300 digits"),
        ("configs: []\nconfigs: [b]", "twice"),
        ("- a", "expected a map, got list"),
        ("a: [", "expected the node content"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a: !!map b", "expected a mapping"),
        ("a: 2020-99-99", "month"),
        ("? [a]\n: b", "unhashable"),
        ("a: \x00", "special characters are not allowed"),
    ],
)
def test_what_cannot_be_read_ends_in_one_line(tmp_path, metadata, message):
    file = tmp_path / "README.md"
    file.write_text(f"---\n{metadata}\n---\n", encoding="utf-8")
    with pytest.raises(CardError, match=message) as caught:
        read_card(file)
    assert str(caught.value).startswith(f"{file}: its metadata cannot be read: ")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_a_card_of_gigabytes_is_not_read(tmp_path):
    file = tmp_path / "README.md"
    with file.open("wb") as content:
        content.truncate(MOST_BYTES + 1)
    with pytest.raises(CardError, match="1,048,577 bytes, more than 1,048,576"):
        read_card(file)
    file.write_bytes(b"---\n\xff\n---\n")
    with pytest.raises(CardError, match="codec"):
        read_card(file)
    file.unlink()
    with pytest.raises(CardError, match="No such file"):
        read_card(file)
