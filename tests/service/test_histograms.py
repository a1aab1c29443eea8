"""Our histograms beside the client library's, which counts one observation after another."""

import threading

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics, generate_latest

from service.histograms import Histograms
from service.metrics import BUCKETS

NAME, WORDS = "meet_some_seconds", "Some time"
values = st.one_of(st.sampled_from((0.0, *BUCKETS)), st.floats(0, 20, width=32))


@given(st.lists(st.lists(st.tuples(st.sampled_from("ab"), values), max_size=8), max_size=4))
def test_the_exposition_is_that_of_the_client_library(
    searches: list[list[tuple[str, float]]],
) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    oracle = Histogram(NAME, WORDS, ("stage",), buckets=BUCKETS, registry=theirs)
    made = Histograms(NAME, WORDS, ("stage",), BUCKETS)
    ours.register(made)
    series = {name: made.series(name) for name in "ab"}
    for name in "ab":
        oracle.labels(name)
    for search in searches:
        made.observe([(series[name], value) for name, value in search])
        for name, value in search:
            oracle.labels(name).observe(value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_a_series_is_handed_out_once() -> None:
    made = Histograms(NAME, WORDS, ("stage",), (1.0,))
    assert made.series("a") is made.series("a") is not made.series("b")


def test_no_observation_of_many_threads_is_lost() -> None:
    made = Histograms(NAME, WORDS, (), (1.0,))
    series = made.series()

    def count() -> None:
        for _ in range(5000):
            made.observe([(series, 0.5), (series, 2.0)])

    threads = [threading.Thread(target=count) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert series.counts == [20_000, 20_000]
    assert series.total == 50_000
