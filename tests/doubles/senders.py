"""A webhook sender that answers as it is told, and writes down what it was to send."""

from __future__ import annotations

from chalicelib.webhooks.retry import Answer


class Sender:
    """`answers`: of the next deliveries; 204 where there are none left."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.sent: list[tuple[str, dict[str, str], bytes]] = []

    async def send(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        self.sent.append((url, headers, body))
        return self.answers.pop(0) if self.answers else Answer(204)
