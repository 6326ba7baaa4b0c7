"""What routes need of the house, opened once per process by `app`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import Request

from notifier.api.addresses import AddressCheck
from notifier.campaigns.estimate import Estimator
from notifier.campaigns.schedule import Campaigns
from notifier.channels.email.ses_events import SesEvents
from notifier.delivery.feedback import Feedback
from notifier.delivery.replay import Replayer
from notifier.domain.suppression import Hashes
from notifier.intake.accept import Intake
from notifier.store.database import Database
from notifier.templating import Catalogue


@dataclass(frozen=True, slots=True)
class House:
    database: Database
    catalogue: Catalogue
    intake: Intake
    campaigns: Campaigns
    estimator: Estimator
    replayer: Replayer
    addresses: AddressCheck
    hashes: Hashes
    feedback: Feedback
    ses_events: SesEvents | None


async def _house(request: Request) -> House:
    house: House = request.app.state.house
    return house


TheHouse = Annotated[House, Depends(_house)]
