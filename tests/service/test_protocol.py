"""What leaves for a caller, packet by packet."""

import h11

from service.protocol import JoinedHead

REQUEST = b"GET / HTTP/1.1\r\nhost: meet\r\n\r\n"
HEAD = h11.Response(status_code=200, headers=[("content-length", "10")])


def ask(connection: JoinedHead) -> None:
    connection.receive_data(REQUEST)
    assert isinstance(connection.next_event(), h11.Request)
    assert isinstance(connection.next_event(), h11.EndOfMessage)


def answered(parts: list[h11.Event]) -> list[bytes]:
    """What is sent for each of these events."""
    connection = JoinedHead()
    ask(connection)
    return [connection.send(part) or b"" for part in parts]


def test_a_head_leaves_with_the_first_part_of_its_body() -> None:
    parts = [h11.Data(data=b"first"), h11.Data(data=b"other"), h11.EndOfMessage()]
    head, first, other, end = answered([HEAD, *parts])
    assert (head, other, end) == (b"", b"other", b"")
    assert first == b"HTTP/1.1 200 \r\ncontent-length: 10\r\n\r\nfirst"


def test_an_answer_without_a_body_leaves_with_its_end() -> None:
    nothing = h11.Response(status_code=204, headers=[])
    assert answered([nothing, h11.EndOfMessage()]) == [b"", b"HTTP/1.1 204 \r\n\r\n"]


def test_what_comes_before_an_answer_does_not_wait() -> None:
    hint = h11.InformationalResponse(status_code=103, headers=[])
    assert answered([hint, HEAD])[0] == b"HTTP/1.1 103 \r\n\r\n"


def test_each_answer_of_a_connection_has_its_own_head() -> None:
    connection, sent = JoinedHead(), b""
    for body in (b"0123456789", b"abcdefghij"):
        ask(connection)
        for part in (HEAD, h11.Data(data=body), h11.EndOfMessage()):
            sent += connection.send(part) or b""
        connection.start_next_cycle()
    head = b"HTTP/1.1 200 \r\ncontent-length: 10\r\n\r\n"
    assert sent == head + b"0123456789" + head + b"abcdefghij"
