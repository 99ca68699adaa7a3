"""Notifications: each delivered once through each channel, by whichever process claims the delivery."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select, update

from tasks.ledger.schema import batches, channels, deliveries, notifications
from tasks.ledger.scope import LedgerPart
from tasks.models import Notification, NotificationKind


class ClaimedDelivery(NamedTuple):
    """A notification that one process is delivering through one channel."""

    notification: Notification
    tries: int  #: this one included


@dataclass(frozen=True, slots=True)
class Outbox(LedgerPart):
    """Remembers what each channel still has to deliver."""

    def add(self, kind: NotificationKind, *, once: str, batch_id: int | None = None, **more: str) -> bool:
        """Add a notification (`more`: `code`, `why`); False if one with the same key `once` exists."""
        with self.engine.write() as connection:
            return self.enqueue(connection, kind, batch_id, once=once, **more)

    def enqueue(self, connection: Connection, kind: NotificationKind, batch_id: int | None, **more: str | None) -> bool:
        """Add a notification within the caller's transaction; False if one with the same key `once` exists."""
        values = {"kind": kind, "at": self.engine.now(), "batch_id": batch_id, **more}
        statement = (
            self.engine.insert(notifications).values(values).on_conflict_do_nothing().returning(notifications.c.id)
        )
        return connection.execute(statement).one_or_none() is not None

    def add_digest(self, day: str) -> bool:
        """Add this account's digest of a day; False if it was added before."""
        key = self.scope.account.key
        return self.add(NotificationKind.DIGEST, once=f"digest {day} {key}", code=key)

    def undelivered(self) -> int:
        """Return how many deliveries to this account's channels have failed and are tried again."""
        query = (
            select(func.count())
            .select_from(deliveries)
            .join(notifications, notifications.c.id == deliveries.c.news_id)
            .where(deliveries.c.due_at.is_not(None), deliveries.c.tries > 1, self._of_account())
        )
        with self.engine.read() as connection:
            return int(connection.execute(query).scalar_one())

    def register_channels(self, names: Sequence[str], since: float) -> None:
        """Remember channels that are new: they deliver what happens from `since` on, and nothing of before."""
        with self.engine.read() as connection:
            known = set(connection.execute(select(channels.c.name)).scalars())
        if new := [{"name": name, "since": since} for name in names if name not in known]:
            with self.engine.write() as connection:
                connection.execute(self.engine.insert(channels).on_conflict_do_nothing(), new)

    def unplanned(self, channel: str, newest_at: float, oldest_at: float) -> list[Notification]:
        """Return notifications between these times for which this channel has no delivery yet, oldest first.

        Those about batches of another account, and its digests, are left to the processes of that account.
        """
        since = select(channels.c.since).where(channels.c.name == channel).scalar_subquery()
        planned = exists().where(deliveries.c.news_id == notifications.c.id, deliveries.c.channel == channel)
        query = (
            select(notifications)
            .where(
                notifications.c.at >= since, notifications.c.at >= oldest_at, notifications.c.at <= newest_at, ~planned
            )
            .where(self._of_account())
            .order_by(notifications.c.id)
        )
        with self.engine.read() as connection:
            return [
                Notification(row.id, NotificationKind(row.kind), row.at, row.batch_id, row.code, row.why)
                for row in connection.execute(query)
            ]

    def _of_account(self) -> ColumnElement[bool]:
        of_account = select(batches.c.id).where(self.scope.of_account)
        of_nobody = and_(notifications.c.batch_id.is_(None), notifications.c.kind != NotificationKind.DIGEST)
        own_digest = and_(
            notifications.c.kind == NotificationKind.DIGEST, notifications.c.code == self.scope.account.key
        )
        return or_(of_nobody, own_digest, notifications.c.batch_id.in_(of_account))

    def plan(self, channel: str, notification_ids: Iterable[int]) -> None:
        """Make deliveries of these notifications due for a channel; those that exist are left alone."""
        new = [
            {"news_id": notification_id, "channel": channel, "due_at": self.engine.now()}
            for notification_id in notification_ids
        ]
        if new:
            with self.engine.write() as connection:
                connection.execute(self.engine.insert(deliveries).on_conflict_do_nothing(), new)

    def claim(self, channel: str, lease_seconds: float) -> ClaimedDelivery | None:
        """Take the oldest delivery that is due for a channel; nobody else gets it before the lease ends."""
        now = self.engine.now()
        due = (
            select(notifications, deliveries.c.tries)
            .join(deliveries, deliveries.c.news_id == notifications.c.id)
            .where(deliveries.c.channel == channel, deliveries.c.due_at <= now, self._of_account())
            .order_by(notifications.c.id)
            .limit(1)
        )
        while True:
            with self.engine.read() as connection:
                row = connection.execute(due).one_or_none()
            if row is None:
                return None
            with self.engine.write() as connection:
                claimed = connection.execute(
                    update(deliveries)
                    .where(deliveries.c.news_id == row.id, deliveries.c.channel == channel)
                    .where(deliveries.c.tries == row.tries, deliveries.c.due_at <= now)
                    .values(due_at=now + lease_seconds, tries=row.tries + 1)
                ).rowcount
            if claimed:
                found = Notification(row.id, NotificationKind(row.kind), row.at, row.batch_id, row.code, row.why)
                return ClaimedDelivery(found, row.tries + 1)

    def record_delivered(self, notification_id: int, channel: str) -> None:
        """Remember that a notification was delivered."""
        with self.engine.write() as connection:
            connection.execute(
                update(deliveries)
                .where(deliveries.c.news_id == notification_id, deliveries.c.channel == channel)
                .values(told_at=self.engine.now(), due_at=None)
            )

    def put_off(self, claimed: ClaimedDelivery, channel: str, due_at: float | None) -> None:
        """Let a failed delivery wait until `due_at`, or (None) abandon it; unless another process has claimed it."""
        with self.engine.write() as connection:
            connection.execute(
                update(deliveries)
                .where(deliveries.c.news_id == claimed.notification.id, deliveries.c.channel == channel)
                .where(deliveries.c.tries == claimed.tries, deliveries.c.told_at.is_(None))
                .values(due_at=due_at)
            )
