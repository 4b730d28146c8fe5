"""A server for pushes: checks each signature, drops repetitions, hands the event on, answers.

The answer decides what the sender does: 2xx ends the push, everything else is tried again until the deadline.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

REMEMBERED = 10_000  # ids; in a server of several processes: a table with a unique key


def make_app(deliver: Callable[[dict[str, Any]], bool]) -> Starlette:
    """An app whose POST / calls `deliver` with an event. It returns False, or raises, to be asked again."""
    webhook = Webhook(os.environ["WEBHOOK_SECRET"])
    done: OrderedDict[str, None] = OrderedDict()

    async def receive(request: Request) -> Response:
        try:
            message = webhook.verify(await request.body(), dict(request.headers))
        except WebhookVerificationError:
            return Response(status_code=401)
        uid = request.headers["webhook-id"]
        if uid not in done:
            if not await asyncio.to_thread(deliver, message["data"]):
                return Response(status_code=503)
            done[uid] = None
            if len(done) > REMEMBERED:
                done.popitem(last=False)
        return Response(status_code=204)

    return Starlette(routes=[Route("/", receive, methods=["POST"])])
