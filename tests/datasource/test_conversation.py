"""The messages of a trace are told once, in the order in which they were said."""

from __future__ import annotations

from datasource.traces.conversation import Conversations, Message

SYSTEM, HELLO, YES = Message("system", "be brief"), Message("user", "hello"), Message("user", "yes")
HI, MORE, DONE = Message("assistant", "hi"), Message("assistant", "more?"), Message("assistant", "done")


def test_a_call_that_repeats_its_history_tells_only_what_is_new() -> None:
    conversations = Conversations()
    assert conversations.new_messages([SYSTEM, HELLO], [HI]) == [SYSTEM, HELLO, HI]
    assert conversations.new_messages([SYSTEM, HELLO, HI, YES], [MORE]) == [YES, MORE]
    assert conversations.new_messages([SYSTEM, HELLO, HI, YES, MORE, YES], [DONE]) == [YES, DONE]
    assert conversations.repeated == 3 + 5


def test_two_agents_that_take_turns_have_a_conversation_each() -> None:
    conversations = Conversations()
    other = Message("system", "be thorough")
    assert conversations.new_messages([SYSTEM, HELLO], [HI]) == [SYSTEM, HELLO, HI]
    assert conversations.new_messages([other, HELLO], [MORE]) == [other, HELLO, MORE]
    assert conversations.new_messages([SYSTEM, HELLO, HI, YES], [DONE]) == [YES, DONE]
    assert conversations.new_messages([other, HELLO, MORE, YES], [DONE]) == [YES, DONE]


def test_an_answer_that_was_tried_again_is_told_again() -> None:
    """A retry has the same question: that was told, another answer was not."""
    conversations = Conversations()
    assert conversations.new_messages([SYSTEM, HELLO], [HI]) == [SYSTEM, HELLO, HI]
    assert conversations.new_messages([SYSTEM, HELLO], [MORE]) == [MORE]
    assert conversations.new_messages([SYSTEM, HELLO, MORE, YES], [DONE]) == [YES, DONE]


def test_calls_without_history_tell_everything() -> None:
    conversations = Conversations()
    assert conversations.new_messages([], [HI]) == [HI]
    assert conversations.new_messages([YES], []) == [YES]
    assert conversations.new_messages([], []) == []
    assert conversations.repeated == 0
