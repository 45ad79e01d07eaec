"""Message: an immutable sequence of frames."""

from __future__ import annotations

import array
import collections.abc
import copy
import mmap
import pickle

import pytest

from majordomo import Message


def test_a_message_is_a_sequence_of_bytes() -> None:
    message = Message([b"one", b"", b"three"])
    assert isinstance(message, collections.abc.Sequence)
    assert len(message) == 3
    assert message[0] == b"one"
    assert message[-1] == b"three"
    assert list(message) == [b"one", b"", b"three"]
    assert list(reversed(message)) == [b"three", b"", b"one"]
    assert b"" in message
    assert b"two" not in message
    assert message.index(b"three") == 2
    assert message.count(b"one") == 1
    first, *rest = message
    assert (first, rest) == (b"one", [b"", b"three"])


def test_a_slice_is_a_message() -> None:
    message = Message(["a", "b", "c", "d"])
    assert isinstance(message[1:], Message)
    assert message[1:] == [b"b", b"c", b"d"]
    assert message[::-2] == [b"d", b"b"]
    assert message[3:1] == ()
    assert message[-100:100] == message
    assert message[2 :: 2**62] == [b"c"]


@pytest.mark.parametrize("index", [3, -4, 10**30])
def test_an_index_past_the_ends_raises_index_error(index: int) -> None:
    with pytest.raises(IndexError):
        Message(["a", "b", "c"])[index]


def test_equality_is_that_of_the_frames() -> None:
    message = Message(["a", "b"])
    assert message == Message((b"a", bytearray(b"b")))
    assert message == [b"a", b"b"]
    assert message == (b"a", b"b")
    assert message != [b"a"]
    assert message != ["a", "b"]
    assert message != b"ab"
    assert message != None  # noqa: E711
    assert hash(message) == hash(Message(["a", "b"]))
    assert len({message, Message(["a", "b"]), Message(["a"])}) == 2
    with pytest.raises(TypeError):
        message < message  # type: ignore[operator]  # noqa: B015


def test_a_message_cannot_be_changed() -> None:
    message = Message("a")
    with pytest.raises(TypeError):
        message[0] = b"b"  # type: ignore[index]
    with pytest.raises(AttributeError):
        message.frames = []  # type: ignore[attr-defined]


def test_its_form_shows_its_frames() -> None:
    assert repr(Message()) == "Message([])"
    assert repr(Message("x")) == "Message([b'x'])"
    assert eval(repr(Message(["x", "y"]))) == Message(["x", "y"])


def test_it_can_be_pickled_and_copied() -> None:
    message = Message(["a", b"\xff" * 10_000])
    assert pickle.loads(pickle.dumps(message)) == message
    assert copy.deepcopy(message) == message


@pytest.mark.parametrize(
    ("body", "frames"),
    [
        (b"bytes", [b"bytes"]),
        ("ü", ["ü".encode()]),
        (bytearray(b"array"), [b"array"]),
        (memoryview(b"view")[1:3], [b"ie"]),
        (memoryview(b"strided")[::2], [b"srdd"]),
        (array.array("H", [1, 2]), [array.array("H", [1, 2]).tobytes()]),
        ([], []),
        ((), []),
        ("", [b""]),
        ([b"a", "b", bytearray(b"c")], [b"a", b"b", b"c"]),
        (Message(["m"]), [b"m"]),
        (b"x" * 100_000, [b"x" * 100_000]),
    ],
)
def test_a_body_is_one_frame_or_several_of_any_buffer_or_text(body: object, frames: list[bytes]) -> None:
    assert Message(body) == frames  # type: ignore[arg-type]


def test_a_memory_map_is_a_frame() -> None:
    with mmap.mmap(-1, 10_000) as memory:
        memory[:4] = b"page"
        assert Message(memory)[0].startswith(b"page")


def test_a_buffer_may_change_after_the_message_was_made() -> None:
    buffer = bytearray(b"x" * 10_000)
    message = Message(buffer)
    buffer[:] = b"y" * 10_000
    assert message[0] == b"x" * 10_000


@pytest.mark.parametrize("body", [1, 1.5, object(), [1], [None], [["nested"]], {"a": 1}, {b"a"}, iter([b"a"])])
def test_what_is_no_body_raises_type_error(body: object) -> None:
    with pytest.raises(TypeError):
        Message(body)  # type: ignore[arg-type]


def test_text_that_is_no_unicode_raises_unicode_error() -> None:
    with pytest.raises(UnicodeEncodeError):
        Message("\ud800")
