"""Half-received messages and the budget they are charged to."""

class Budget:
    """Bytes that all half-received messages of a worker may hold together."""

    limit: int
    used: int
    peak: int
    refused: int  # pieces that found it used up

    def __init__(self, limit: int) -> None: ...
