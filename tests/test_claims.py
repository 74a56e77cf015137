"""A claim has one owner, who keeps it while it lives. No clocks of two machines are compared."""

import os
import time

import pytest

from align.files import claims as module
from align.files.claims import Claims


@pytest.fixture
def elsewhere(monkeypatch):
    """Let the watcher be on another machine than the owner."""

    def move(name):
        monkeypatch.setattr(module, "_boot", lambda: name.encode())

    return move


def test_one_process_has_a_claim(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    with first.hold("a") as ours:
        assert ours
        with second.hold("a") as theirs:
            assert not theirs
        with second.hold("b") as other:
            assert other
    with second.hold("a") as ours:
        assert ours
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path):
    child = os.fork()
    if not child:
        with Claims(tmp_path).hold("a"):
            os._exit(0)
    os.waitpid(child, 0)
    assert [p.name for p in tmp_path.iterdir()] == ["a.claim"]
    with Claims(tmp_path).hold("a") as ours:
        assert ours
    assert list(tmp_path.iterdir()) == []


def test_a_lock_says_nothing_about_another_machine(tmp_path, elsewhere):
    elsewhere("one")
    child = os.fork()
    if not child:
        with Claims(tmp_path).hold("a"):
            os._exit(0)
    os.waitpid(child, 0)
    elsewhere("two")
    with Claims(tmp_path).hold("a") as theirs:
        assert not theirs


def test_a_claim_of_another_machine_ends_after_the_lease_without_a_beat(tmp_path, elsewhere):
    elsewhere("one")
    owner = Claims(tmp_path, beat=30)
    with owner.hold("a") as ours:
        assert ours
        elsewhere("two")
        watcher = Claims(tmp_path, lease=0.2)
        with watcher.hold("a") as theirs:
            assert not theirs  # a first look is no sign of death, whatever the file's times say
        os.utime(tmp_path / "a.claim", (0, 0))
        with watcher.hold("a") as theirs:
            assert not theirs
        time.sleep(0.3)
        with watcher.hold("a") as theirs:
            assert theirs
            assert (tmp_path / "a.claim").is_file()
    assert list(tmp_path.iterdir()) == []  # the late owner does not remove a claim that is another's


def test_an_owner_that_lives_keeps_its_claim_past_the_lease(tmp_path, elsewhere):
    elsewhere("one")
    with Claims(tmp_path, beat=0.02).hold("a"):
        elsewhere("two")
        watcher = Claims(tmp_path, lease=0.25)
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            with watcher.hold("a") as theirs:
                assert not theirs
            time.sleep(0.05)


def test_the_late_owner_leaves_the_claim_of_another(tmp_path, elsewhere):
    elsewhere("one")
    with Claims(tmp_path, beat=30).hold("a"):
        elsewhere("two")
        watcher = Claims(tmp_path, lease=0.0)
        with watcher.hold("a"):
            pass
        time.sleep(0.01)
        taken = watcher.hold("a")
        assert taken.__enter__()
    assert (tmp_path / "a.claim").is_file()
    taken.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


def test_a_faster_process_keeps_the_claim_that_two_took_over(tmp_path, elsewhere, monkeypatch):
    elsewhere("dead")
    dead = Claims(tmp_path, beat=30).hold("a")
    dead.__enter__()
    elsewhere("two")
    slow, fast = Claims(tmp_path, lease=0.0), Claims(tmp_path, lease=0.0)
    for watcher in (slow, fast):
        with watcher.hold("a"):
            pass
    time.sleep(0.01)
    abandoned = Claims._is_abandoned
    faster = fast.hold("a")

    def look(self, path):
        found = abandoned(self, path)
        if self is slow:
            assert faster.__enter__()  # between the slow one's look and its taking over
        return found

    monkeypatch.setattr(Claims, "_is_abandoned", look)
    with slow.hold("a") as ours:
        assert not ours
    assert [p.name for p in tmp_path.iterdir()] == ["a.claim"]
    faster.__exit__(None, None, None)
    assert list(tmp_path.iterdir()) == []
    dead.__exit__(None, None, None)


def test_waiting_ends_with_the_claim(tmp_path):
    claims = Claims(tmp_path)
    held = Claims(tmp_path).hold("a")
    held.__enter__()
    tries = []

    def sleep(seconds):
        tries.append(seconds)
        held.__exit__(None, None, None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.time, "sleep", sleep)
        with claims.wait("a", 0.01):
            assert tries == [0.01]
