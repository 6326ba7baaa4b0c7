"""Amazon SQS as moto has it, in this process. It forgets nothing when it stops, as the real one would not."""

from __future__ import annotations

import logging
from typing import Any

import boto3
from moto.server import ThreadedMotoServer

from notifier.embedded.ports import HOST, free_port
from notifier.queues import QUEUES

REGION = "eu-west-1"


class Sqs:
    """One region. `query` goes into the URL of the broker."""

    name = "SQS"

    def __init__(self, *, query: str = "") -> None:
        self._port = free_port()
        self._server: ThreadedMotoServer | None = None
        self.endpoint = f"http://{HOST}:{self._port}"
        # One second of a long poll, so that a test is told soon that a worker hangs.
        self.url = f"sqs://key:a%2Fb@{HOST}:{self._port}?ssl=false&region={REGION}&wait=1{query}"
        self.version = "moto's SQS"

    def start(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each poll
        self._server = ThreadedMotoServer(HOST, self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def depth(self, queue: str) -> int:
        """Messages that wait; 0 if nobody has made the queue."""
        url = self._queues().get(queue)
        if url is None:
            return 0
        told = self.client().get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(told["Attributes"]["ApproximateNumberOfMessages"])

    def purge(self) -> int:
        """Empty every queue of ours; how many hints are gone with it."""
        gone = 0
        client = self.client()
        for url in self._queues().values():  # not by PurgeQueue, which SQS allows once a minute
            while found := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
                for message in found:
                    client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                gone += len(found)
        return gone

    def make_queues(self) -> None:
        """What an operator does where the service may not."""
        for queue in QUEUES:
            self.client().create_queue(QueueName=_named(queue))

    def client(self) -> Any:
        """boto3's, past the service."""
        return boto3.client(
            "sqs",
            region_name=REGION,
            endpoint_url=self.endpoint,
            aws_access_key_id="key",
            aws_secret_access_key="a/b",
        )

    def _queues(self) -> dict[str, str]:
        urls = {url.rsplit("/", 1)[1]: url for url in self.client().list_queues().get("QueueUrls", [])}
        return {queue: urls[_named(queue)] for queue in QUEUES if _named(queue) in urls}


def _named(queue: str) -> str:
    return "notifier-" + queue.replace(".", "-")
