"""The judge of what groups do in `scripts/kafka-kill --groups` sees each fault that it is there for, and no
other."""

import pytest
from kill.commits import Commits
from kill.ledger import Ledger
from kill.records import value_of

HERE, THERE = ("topic", 0), ("topic", 1)


class Told:
    """What the members of a group say in a few words. Each word comes a second after the one before."""

    def __init__(self):
        self.ledger = Ledger({"topic": ("sender",)}, 2, lambda sender, number: value_of(1, sender, number))
        self.commits = Commits("group", [HERE, THERE], self.ledger)
        self._now = 0.0
        for place in (HERE, THERE):
            self.commit("the beginning", 0, place=place)

    def now(self) -> float:
        self._now += 1
        return self._now

    def assign(self, member: str, place=HERE):
        self.commits.assigned(member, place, self.now())

    def deprive(self, member: str, place=HERE):
        self.commits.deprived(member, place)

    def give(self, member: str, *offsets: int, place=HERE):
        self.commits.given(member, place, list(offsets), self.now())

    def want(self, member: str, offset: int, place=HERE):
        """A member whose name begins with "auto" commits automatically."""
        automatic = member.startswith("auto")
        self.commits.wants(member, place, offset, self.now(), automatic)

    def acknowledge(self, member: str, offset: int, place=HERE):
        self.commits.acknowledged(member, place, offset, self.now())

    def commit(self, member: str, offset: int, place=HERE):
        self.want(member, offset, place)
        self.acknowledge(member, offset, place)

    def ask(self, here: int, there: int = 0):
        self.commits.asked({HERE: here, THERE: there}, self.now(), self.now())

    def read_all(self, member: str, place=HERE, end: int = 3):
        self.assign(member, place)
        self.give(member, *range(end), place=place)
        self.commit(member, end, place)

    def broken(self, here: int = 3, there: int = 0) -> list[str]:
        self.commits.finish({HERE: here, THERE: there})
        return self.ledger.broken

    def says(self, *parts: str, here: int = 3, there: int = 0):
        """Asserts that one promise was broken, and that this is told of it."""
        broken = self.broken(here, there)
        assert len(broken) == 1, broken
        for part in parts:
            assert part in broken[0]


@pytest.fixture
def told() -> Told:
    return Told()


def test_nothing_to_say(told):
    told.assign("a")
    told.give("a", 0, 1)
    told.commit("a", 2)
    told.ask(2)
    told.give("a", 2)
    told.deprive("a")
    # The one that comes next begins at what was committed, and is given the rest once more.
    told.assign("auto")
    told.give("auto", 2, 3)
    told.commit("auto", 4)
    told.ask(4)
    told.read_all("b", THERE, end=1)
    assert told.broken(here=4, there=1) == []
    assert told.commits.counts == {
        "committed": 4,
        "committed automatically": 1,
        "resumed": 3,
        "given": 6,
        "given again": 1,
        "asked": 4,
    }


def test_a_commit_that_nobody_heard_the_answer_to_may_hold_or_not(told):
    told.read_all("a")
    told.want("a", 5)
    told.ask(3)
    told.ask(5)
    told.assign("b")
    told.give("b", 5)
    told.want("b", 6)
    told.commits.was_refused("ILLEGAL_GENERATION")
    told.ask(5)
    assert told.broken() == []
    assert told.commits.refused == {"ILLEGAL_GENERATION": 1}


def test_what_overlaps_in_time_may_come_in_either_order(told):
    told.read_all("a")
    told.want("a", 4)
    asked_at = told.now()
    told.acknowledge("a", 4)
    # Asked before the acknowledgement, answered after it.
    told.commits.asked({HERE: 3}, asked_at, told.now())
    assert told.broken() == []


def test_a_commit_is_forgotten_says_who_asks(told):
    told.read_all("a")
    told.ask(0)
    told.says("group, topic/0: who asked was told offset 0", "the acknowledgement to a said offset 3")


def test_a_commit_is_forgotten_shows_where_the_next_one_begins(told):
    told.read_all("a")
    told.commit("a", 4)
    told.assign("b")
    told.give("b", 3)
    told.says("topic/0: b began at offset 3", "the acknowledgement to a said offset 4")


def test_an_automatic_commit_is_forgotten(told):
    told.read_all("auto")
    told.commit("auto", 4)
    told.ask(3)
    told.says("who asked was told offset 3", "the acknowledgement to auto said offset 4")


def test_an_automatic_commit_that_was_seen_is_forgotten(told):
    told.read_all("auto")
    told.want("auto", 4)
    told.ask(4)
    told.ask(3)
    told.says("who asked was told offset 3", "who asked was told offset 4")


@pytest.mark.parametrize("seen", [True, False])
def test_an_automatic_commit_is_sent_again_after_a_newer_one(told, seen):
    told.read_all("auto")
    told.want("auto", 4)
    told.want("auto", 6)
    if seen:
        told.ask(6)
    told.acknowledge("auto", 6)
    told.acknowledge("auto", 4)
    told.ask(4)
    # From there it goes on, with whomever.
    told.assign("b")
    told.give("b", 4)
    told.commit("b", 5)
    told.ask(5)
    assert told.broken() == []
    assert told.commits.overtaken() == 1


def test_what_is_sent_again_after_a_newer_one_bounds_those_after_it(told):
    told.read_all("auto")
    told.want("auto", 4)
    told.want("auto", 6)
    told.acknowledge("auto", 6)
    told.ask(4)
    told.ask(3)
    told.says("who asked was told offset 3", "who asked was told offset 4")


def test_only_automatic_commits_are_sent_again_after_newer_ones(told):
    told.read_all("a")
    told.want("a", 4)
    told.want("a", 6)
    told.acknowledge("a", 6)
    told.ask(4)
    told.says("who asked was told offset 4", "the acknowledgement to a said offset 6")


def test_a_commit_is_not_sent_again_after_another_member_s(told):
    told.read_all("auto")
    told.want("auto", 4)
    told.want("auto", 6)
    told.assign("b")
    told.give("b", 3, 4, 5)
    told.commit("b", 6)
    told.acknowledge("auto", 4)
    told.ask(4)
    told.says("who asked was told offset 4", "the acknowledgement to b said offset 6")


def test_no_commit_is_left(told):
    told.read_all("a")
    told.ask(-1001)
    assert any("was told offset -1001, and" in text for text in told.broken())


def test_a_commit_of_another_partition_is_forgotten(told):
    told.read_all("a")
    told.read_all("a", THERE)
    told.ask(3, 0)
    told.says("topic/1", "offset 0", here=3, there=3)


def test_a_committed_offset_goes_back_after_it_was_seen(told):
    told.read_all("a")
    told.want("a", 5)
    # Nobody was told that 5 is committed, but it was seen.
    told.ask(5)
    told.ask(3)
    told.says("who asked was told offset 3", "who asked was told offset 5")


def test_a_member_that_is_none_any_more_takes_the_offset_back(told):
    told.assign("zombie")
    told.give("zombie", 0)
    told.read_all("b")
    told.commit("zombie", 1)
    told.says("the acknowledgement to zombie said offset 1", "the acknowledgement to b said offset 3")


def test_a_commit_of_the_past_is_no_fault_if_it_was_under_way(told):
    told.assign("slow")
    told.give("slow", 0)
    told.want("slow", 1)
    told.assign("b")
    told.give("b", 0, 1, 2)
    told.commit("b", 3)
    # Which of its two wishes was granted nobody knows.
    told.want("slow", 1)
    told.acknowledge("slow", 1)
    told.ask(3)
    assert told.broken() == []


def test_where_to_begin_may_be_settled_when_it_is_assigned(told):
    told.read_all("a")
    told.want("a", 4)
    told.assign("b")
    told.acknowledge("a", 4)
    told.give("b", 3)
    assert told.broken() == []


def test_begun_where_nobody_had_committed(told):
    told.read_all("a")
    told.want("a", 5)
    told.assign("b")
    told.give("b", 4)
    told.says("b began at offset 4, which nobody had wanted to commit by then")


def test_begun_where_somebody_commits_only_later(told):
    told.read_all("a")
    told.assign("b")
    told.give("b", 4)
    told.commit("b", 4)
    told.says("b began at offset 4, which nobody had wanted to commit by then")


def test_told_of_a_commit_that_was_not_asked_for(told):
    told.read_all("a")
    told.acknowledge("a", 7)
    told.says("a was told of a commit of offset 7, and did not ask for it")


@pytest.mark.parametrize("offset", [0, 2, 4])
def test_a_member_goes_back_or_leaves_out(told, offset):
    told.read_all("a", end=3)
    told.give("a", offset)
    told.says(f"a was given offset {offset} and not 3")


def test_given_what_is_not_its_own(told):
    told.read_all("a")
    told.give("b", 0)
    told.says("b was given offset 0 and does not have the partition")


def test_given_what_is_not_its_own_any_more(told):
    told.read_all("a")
    told.deprive("a")
    told.give("a", 3)
    told.says("a was given offset 3 and does not have the partition")


def test_never_given_to_anybody(told):
    told.read_all("a")
    told.want("a", 5)
    told.assign("b")
    told.give("b", 5, 6)
    told.says("no member was ever given offsets 3 to 4", here=7)


def test_never_given_at_the_end(told):
    told.read_all("a")
    assert told.commits.behind({HERE: 5, THERE: 0}) == [HERE]
    told.says("no member was ever given offsets 3 to 4", here=5)


def test_never_given_in_another_partition(told):
    told.read_all("a")
    assert told.commits.behind({HERE: 3, THERE: 1}) == [THERE]
    told.says("topic/1: no member was ever given offsets 0 to 0", here=3, there=1)
