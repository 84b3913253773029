from array import array

def send_to_all(
    fds: array[int],
    start: int,
    stop: int,
    data: bytes | memoryview,
    backwards: bool,
    senders: int,
) -> list[tuple[int, int]]: ...
def accept(listener: int, most: int, size: int, highest: int) -> list[tuple[int, bytes | None]]: ...
