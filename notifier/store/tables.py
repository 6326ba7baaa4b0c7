"""Every table. An index stands here only with the query that needs it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from notifier.domain.campaign import CampaignStatus, LimitedBy
from notifier.domain.delivery import ENDED, Status
from notifier.domain.notification import Channel, Mode, OnUnknown, Priority

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s",
    }
)

_NOW = text("now()")

#: The ends of a delivery, each with a counter of its name in `campaign_chunks`.
COUNTED = tuple(str(status) for status in Status if status in ENDED)


def _moment(name: str, *, nullable: bool = False, now: bool = False) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable, server_default=_NOW if now else None)


def _one_of(column: str, words: type[StrEnum]) -> CheckConstraint:
    listed = ", ".join(f"'{word}'" for word in words)
    return CheckConstraint(f"{column} IN ({listed})", name=column)


services = Table(
    "services",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    _moment("created_at", now=True),
    Column("retention_days", Integer),  # of what has ended; None: what the settings say
)

#: `id` is the public half of a key, by which it is found; of the secret half only SHA-256 is kept.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("service_id", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("mode", Text, nullable=False),
    _moment("created_at", now=True),
    _moment("revoked_at", nullable=True),
    ForeignKeyConstraint(["service_id"], ["services.id"]),
    _one_of("mode", Mode),
)

recipients = Table(
    "recipients",
    metadata,
    Column("service_id", BigInteger, nullable=False),
    Column("id", BigInteger, nullable=False),
    Column("email", Text),
    Column("locale", Text),
    Column("timezone", Text),
    Column("attributes", JSONB, nullable=False, server_default=text("'{}'")),
    _moment("created_at", now=True),
    _moment("updated_at", now=True),
    PrimaryKeyConstraint("service_id", "id"),
)

#: A token is on one phone, and a phone is in one pair of hands: registering it again moves it.
devices = Table(
    "devices",
    metadata,
    Column("service_id", BigInteger, nullable=False),
    Column("token", Text, nullable=False),
    Column("recipient_id", BigInteger, nullable=False),
    Column("platform", Text, nullable=False),
    _moment("created_at", now=True),
    PrimaryKeyConstraint("service_id", "token"),
    ForeignKeyConstraint(
        ["service_id", "recipient_id"], ["recipients.service_id", "recipients.id"], ondelete="CASCADE"
    ),
    Index("devices_recipient", "service_id", "recipient_id"),  # recipients.LOAD, and the cascade
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("service_id", BigInteger, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("recipient_id", BigInteger, nullable=False),
    Column("p256dh", Text, nullable=False),
    Column("auth", Text, nullable=False),
    _moment("created_at", now=True),
    PrimaryKeyConstraint("service_id", "endpoint"),
    ForeignKeyConstraint(
        ["service_id", "recipient_id"], ["recipients.service_id", "recipients.id"], ondelete="CASCADE"
    ),
    Index("subscriptions_recipient", "service_id", "recipient_id"),  # recipients.LOAD, and the cascade
)

#: Addresses to which a service sends nothing more, each as a hash: the address itself is kept nowhere.
suppressions = Table(
    "suppressions",
    metadata,
    Column("service_id", BigInteger, nullable=False),
    Column("channel", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("reason", Text, nullable=False),
    _moment("created_at", now=True),
    PrimaryKeyConstraint("service_id", "channel", "hash"),
    _one_of("channel", Channel),
)

notifications = Table(
    "notifications",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("service_id", BigInteger, nullable=False),
    Column("template", Text, nullable=False),
    Column("template_version", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("recipient_id", BigInteger),
    Column("address", JSONB),  # of a recipient given by address instead of by id
    Column("data", JSONB, nullable=False),
    Column("reference", Text),
    Column("collapse_key", Text),
    _moment("send_at", nullable=True),
    _moment("expires_at"),
    _moment("created_at"),
    _one_of("priority", Priority),
    _one_of("mode", Mode),
    Index("notifications_service", "service_id", "id"),  # notifications.LIST
    Index("notifications_reference", "service_id", "reference", "id", postgresql_where=text("reference IS NOT NULL")),
    Index(
        "notifications_recipient", "service_id", "recipient_id", "id", postgresql_where=text("recipient_id IS NOT NULL")
    ),
)

#: A template sent to an audience. `plan` is all that its caller asked for; `position` is where the next chunk begins.
campaigns = Table(
    "campaigns",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("service_id", BigInteger, nullable=False),
    Column("parent_id", Uuid),  # the repeating campaign of which this is a run, and for which moment
    _moment("run_at", nullable=True),
    Column("template", Text, nullable=False),
    Column("template_version", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("mode", Text, nullable=False),
    Column("plan", JSONB, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_reason", Text),
    Column("position", JSONB),
    Column("bound", JSONB),
    Column("expected", BigInteger),
    Column("chunks", Integer, nullable=False, server_default=text("0")),
    _moment("slot"),
    _moment("due_at", nullable=True),
    _moment("open_until", nullable=True),
    Column("limited_by", Text),
    Column("watch_from", Integer, nullable=False, server_default=text("0")),
    Column("source_failures", Integer, nullable=False, server_default=text("0")),
    _moment("created_at"),
    _moment("started_at", nullable=True),
    _moment("walked_at", nullable=True),
    _moment("finished_at", nullable=True),
    _moment("updated_at"),
    _one_of("mode", Mode),
    _one_of("status", CampaignStatus),
    _one_of("limited_by", LimitedBy),
    Index("campaigns_due", "due_at", postgresql_where=text("due_at IS NOT NULL")),  # campaigns.DUE
    Index("campaigns_service", "service_id", "id"),  # campaigns.LIST
    Index("campaigns_run", "parent_id", "run_at", unique=True, postgresql_where=text("parent_id IS NOT NULL")),
)

#: What a walk has made, and what became of it: the counters are written with the results, so that progress is a sum
#: of a few rows. `range` is what was searched, in the audience's own axis.
campaign_chunks = Table(
    "campaign_chunks",
    metadata,
    Column("campaign_id", Uuid, nullable=False),
    Column("number", Integer, nullable=False),
    Column("range", JSONB, nullable=False),
    Column("recipients", Integer, nullable=False),
    Column("planned", Integer, nullable=False),
    *(Column(word, Integer, nullable=False, server_default=text("0")) for word in COUNTED),
    _moment("created_at"),
    Column("is_open", Boolean, Computed(f"planned > {' + '.join(COUNTED)}", persisted=True), nullable=False),
    PrimaryKeyConstraint("campaign_id", "number"),
    Index("campaign_chunks_open", "campaign_id", postgresql_where=text("is_open")),  # chunks.UNFINISHED
    # The migration sets fillfactor 50: a chunk's counters are written many times, and stay on their page.
)

#: The unit of work and of state. `due_at` is the one column that everything waits by; NULL when nothing is to be done.
#: It belongs to a notification, or to a chunk of a campaign.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("notification_id", Uuid),
    Column("campaign_id", Uuid),
    Column("chunk", Integer),
    Column("address", JSONB),  # of a campaign's recipient whom a SQL source gave with addresses
    Column("service_id", BigInteger, nullable=False),
    Column("recipient_id", BigInteger),
    Column("channel", Text, nullable=False),
    Column("priority", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("attempt", SmallInteger, nullable=False, server_default=text("0")),
    Column("max_attempts", SmallInteger, nullable=False),
    Column("unknowns", SmallInteger, nullable=False, server_default=text("0")),
    Column("fence", Integer, nullable=False, server_default=text("0")),
    Column("on_unknown", Text, nullable=False),
    Column("settled", ARRAY(Text)),  # targets that need no further attempt
    Column("provider", Text),
    Column("provider_message_id", Text),
    _moment("due_at", nullable=True),
    _moment("expires_at"),
    _moment("created_at"),
    _moment("claimed_at", nullable=True),
    _moment("called_at", nullable=True),  # in the attempt under way: before it, a lost worker has sent nothing
    _moment("updated_at"),
    _one_of("channel", Channel),
    _one_of("priority", Priority),
    _one_of("mode", Mode),
    _one_of("status", Status),
    _one_of("on_unknown", OnUnknown),
    Index(
        "deliveries_due", "priority", "channel", "due_at", postgresql_where=text("due_at IS NOT NULL")
    ),  # DUE, BACKLOG
    Index(
        "deliveries_of_notification", "notification_id", postgresql_where=text("notification_id IS NOT NULL")
    ),  # OF_NOTIFICATIONS, CANCEL
    # A campaign's recipients are told once a channel, whatever crashes; and its log is read in this order.
    Index(
        "deliveries_campaign",
        "campaign_id",
        "recipient_id",
        "channel",
        unique=True,
        postgresql_where=text("campaign_id IS NOT NULL"),
    ),
    Index(
        "deliveries_failed", "service_id", "id", postgresql_where=text("status = 'failed'")
    ),  # dead_letters.PAGE, FIND
    CheckConstraint("(notification_id IS NULL) <> (campaign_id IS NULL)", name="owner"),
    # The migration sets fillfactor 80: with three updates a delivery, room on the page keeps the table from growing.
)

#: What happened to a delivery after it was accepted, one row a decision. The timeline is read from here.
delivery_events = Table(
    "delivery_events",
    metadata,
    Column("delivery_id", BigInteger, nullable=False),
    Column("id", BigInteger, Identity(), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    Column("status_from", Text, nullable=False),
    Column("status_to", Text, nullable=False),
    Column("reason", Text),
    Column("attempt", SmallInteger, nullable=False),
    Column("detail", JSONB),
    PrimaryKeyConstraint("delivery_id", "id"),
)

#: Kept with what it made, in the same transaction. `response` is the first answer, to be given again.
idempotency = Table(
    "idempotency",
    metadata,
    Column("service_id", BigInteger, nullable=False),
    Column("route", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("response", JSON, nullable=False),  # not JSONB: the first answer, to the letter
    _moment("created_at"),
    PrimaryKeyConstraint("service_id", "route", "key"),
    Index("idempotency_age", "service_id", "created_at"),  # leftovers.KEYS, DELETE_KEYS; explanations.KEYS
)
