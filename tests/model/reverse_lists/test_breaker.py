from concurrent.futures import ThreadPoolExecutor

from model.reverse_lists.breaker import CircuitBreaker
from tests.support.clock import Clock


def breaker_of(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(clock, first_seconds=1.0, longest_seconds=3.0)


def test_a_failure_opens_it_and_only_the_first_one_says_so() -> None:
    breaker = breaker_of(Clock())
    assert breaker.admits()
    assert breaker.failed()
    assert not breaker.failed()
    assert not breaker.closed
    assert not breaker.ready
    assert not breaker.admits()


def test_the_pause_doubles_with_each_failed_probe_up_to_the_longest() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    breaker.failed()
    for pause in (1.0, 2.0, 3.0, 3.0):
        clock.now += pause - 0.01
        assert not breaker.ready
        clock.now += 0.01 + 1e-9
        assert breaker.admits()
        assert not breaker.failed()


def test_failures_that_were_under_way_when_it_opened_do_not_lengthen_the_pause() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    for _ in range(5):
        breaker.failed()
    clock.now += 1.0
    assert breaker.admits()


def test_one_of_many_probes_and_its_success_admits_all_again() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    breaker.failed()
    clock.now += 1.0
    with ThreadPoolExecutor(8) as pool:
        admitted = list(pool.map(lambda _: breaker.admits(), range(100)))
    assert admitted.count(True) == 1
    assert breaker.worked()
    assert breaker.closed
    assert breaker.admits()
    assert not breaker.worked()


def test_a_probe_that_never_reports_holds_the_others_back_for_one_pause_only() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    breaker.failed()
    clock.now += 1.0
    assert breaker.admits()
    assert not breaker.admits()
    clock.now += 1.0
    assert breaker.admits()


def test_after_a_success_the_first_pause_is_short_again() -> None:
    clock = Clock()
    breaker = breaker_of(clock)
    for _ in range(3):
        breaker.failed()
        clock.now += 3.0
        assert breaker.admits()
    breaker.worked()
    assert breaker.failed()
    clock.now += 1.0
    assert breaker.admits()
