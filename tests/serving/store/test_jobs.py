"""Jobs: accepted within bounds, taken by turns, ended once."""

from __future__ import annotations

import pytest

from anystory.serving.store.database import Database
from anystory.serving.store.job import NewJob
from anystory.serving.store.jobs import JobStore, KeyReusedError, QueueFullError


def new(owner: str = "ann", **changes) -> NewJob:
    return NewJob(**{"owner": owner, "kind": "picture", "work": {"prompt": "a fox"}} | changes)


def test_a_job_is_kept_as_it_was_accepted_and_belongs_to_its_owner(jobs):
    job = jobs.accept(new(cost=3, alike="64x64"))
    assert (job.state, job.work, job.cost, job.alike, job.ended) == ("queued", {"prompt": "a fox"}, 3, "64x64", False)
    assert jobs.find(job.id, "ann") == jobs.find(job.id) == jobs.get(job.id) == job
    assert jobs.find(job.id, "bob") is None
    assert jobs.find("job_0", "ann") is None
    with pytest.raises(KeyError):
        jobs.get("job_0")


def test_a_job_ends_once(jobs):
    job = jobs.accept(new())
    assert [one.id for one in jobs.take()] == [job.id]
    assert jobs.get(job.id).state == "running"
    done = jobs.finish(job.id, {"pictures": ["0001.png"]})
    assert (done.state, done.result, done.error, done.ended) == ("done", {"pictures": ["0001.png"]}, None, True)
    assert jobs.fail(job.id, "server_error", "late") == done
    assert jobs.cancelled(job.id) == jobs.put_back(job.id) == jobs.ask_cancel(job.id).__class__(**vars(done)) == done
    assert jobs.take() == []


def test_a_waiting_job_is_cancelled_at_once_and_a_running_one_when_the_worker_has_heard(jobs):
    waiting, running = jobs.accept(new("ann")), jobs.accept(new("ann"))
    jobs.take()
    assert jobs.ask_cancel(running.id).state == "cancelled"
    asked = jobs.ask_cancel(waiting.id)
    assert (asked.state, asked.cancel) == ("running", True)
    assert jobs.put_back(waiting.id).state == "cancelled"


def test_the_queue_is_bounded_for_all_and_for_each(database):
    jobs = JobStore(database, most=3)
    first = jobs.accept(new(), most_of_owner=2)
    jobs.accept(new(), most_of_owner=2)
    with pytest.raises(QueueFullError, match="2 jobs of this key"):
        jobs.accept(new(), most_of_owner=2)
    jobs.accept(new("bob"), most_of_owner=2)
    with pytest.raises(QueueFullError, match="3 jobs are waiting"):
        jobs.accept(new("cleo"))
    jobs.ask_cancel(first.id)
    jobs.accept(new("cleo"))


def test_a_repeated_request_gives_the_same_job_even_when_the_queue_is_full(database):
    jobs = JobStore(database, most=1)
    first = jobs.accept(new(repeat_key="k", digest="d"))
    assert jobs.accept(new(repeat_key="k", digest="d")) == first
    with pytest.raises(KeyReusedError, match="'k' belongs to another request"):
        jobs.accept(new(repeat_key="k", digest="other"))
    jobs.take()
    jobs.finish(first.id, {})
    assert jobs.accept(new(repeat_key="k", digest="d")).state == "done"
    assert jobs.accept(new("bob", repeat_key="k", digest="other")).id != first.id


def test_keys_take_turns_by_pictures(jobs):
    for owner, cost, count in (("ann", 1, 6), ("bob", 3, 2), ("cleo", 1, 1)):
        for _ in range(count):
            jobs.accept(new(owner, cost=cost))
    order = [jobs.take()[0].owner for _ in range(9)]
    assert order == ["ann", "bob", "cleo", "ann", "ann", "ann", "bob", "ann", "ann"]
    assert jobs.take() == []


def test_nobody_saves_up_turns(jobs):
    for _ in range(5):
        jobs.accept(new("ann"))
    for _ in range(4):
        jobs.take()
    for _ in range(3):
        jobs.accept(new("bob"))
    assert [jobs.take()[0].owner for _ in range(4)] == ["bob", "ann", "bob", "bob"]


def test_jobs_that_are_alike_come_together_within_the_room(jobs):
    for owner, cost, alike in (
        ("ann", 2, "s"), ("ann", 1, "l"), ("ann", 1, "s"), ("bob", 4, "s"), ("bob", 1, "s"), ("cleo", 1, None),
    ):  # fmt: skip
        jobs.accept(new(owner, cost=cost, alike=alike))
    assert [(job.owner, job.cost) for job in jobs.take(4)] == [("ann", 2), ("bob", 1), ("ann", 1)]
    assert [(job.owner, job.alike) for job in jobs.take(4)] == [("cleo", None)]
    assert [job.cost for job in jobs.take(2)] == [4]
    assert [job.alike for job in jobs.take(4)] == ["l"]


def test_a_job_over_which_a_worker_died_is_tried_once_more_alone(jobs):
    first, second = jobs.accept(new(alike="s")), jobs.accept(new(alike="s"))
    assert len(jobs.take(8)) == 2
    assert [jobs.crashed(job.id, "the worker died").state for job in (first, second)] == ["queued", "queued"]
    assert [job.id for job in jobs.take(8)] == [first.id]
    failed = jobs.crashed(first.id, "the worker died")
    assert failed.state == "failed"
    assert failed.error == {
        "type": "server_error",
        "message": "the worker died, 2 times over this job: it is not tried again",
    }
    assert [job.id for job in jobs.take(8)] == [second.id]
    assert jobs.finish(second.id, {}).state == "done"


def test_results_are_forgotten_when_they_have_ended_long_ago(database):
    now = 0.0
    jobs = JobStore(database, clock=lambda: now)
    done, waiting = jobs.accept(new(repeat_key="k", digest="d")), jobs.accept(new())
    jobs.take()
    jobs.finish(done.id, {})
    now = 100.0
    assert jobs.ended_before(0.0) == []
    assert jobs.ended_before(50.0) == [done.id]
    for job in (done, waiting):
        jobs.forget(job.id)
    assert jobs.ids() == {waiting.id}
    assert jobs.accept(new(repeat_key="k", digest="d")).id != done.id
    assert jobs.counts() == {"queued": 2}


def test_a_database_of_another_kind_or_a_later_version_is_refused(place, database):
    (place / "notes").write_text("no database at all, but text" * 50)
    with pytest.raises(ValueError, match="cannot be read as a server's database"):
        Database(place / "notes")
    database.execute("PRAGMA user_version = 7")
    with pytest.raises(ValueError, match="later version of anystory"):
        Database(place / "server.sqlite")
