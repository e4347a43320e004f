"""Conversations that outlive a request: sessions with branches, behind one port."""

from railstream.conversations.entries import MAIN, BranchInfo, Entry, SessionInfo, prompt_of, session_of_thread
from railstream.conversations.memory import MemorySessions
from railstream.conversations.redis_store import RedisSessions
from railstream.conversations.store import Sessions

__all__ = [
    "MAIN",
    "BranchInfo",
    "Entry",
    "MemorySessions",
    "RedisSessions",
    "SessionInfo",
    "Sessions",
    "prompt_of",
    "session_of_thread",
]
