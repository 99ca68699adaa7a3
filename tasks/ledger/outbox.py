"""What people are told: each piece of news once through each channel, by whichever process claims it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, exists, or_, select, update

from tasks.ledger.schema import batches, channels, news, tellings
from tasks.ledger.store import Store
from tasks.models import Notification, NotificationKind


class ClaimedDelivery(NamedTuple):
    """News in the hands of one process, for one channel."""

    news: Notification
    tries: int  #: this one included


class Telling(Store):
    """Remembers what is still to be told, and to whom."""

    def add_news(self, kind: NotificationKind, *, once: str, batch_id: int | None = None, **more: str) -> bool:
        """Let people be told (`more`: `code`, `why`); False if it is there already under the name `once`."""
        with self.engine.write() as connection:
            return self._add_news(connection, kind, batch_id, once=once, **more)

    def know_channels(self, names: Sequence[str], since: float) -> None:
        """Remember channels that are new: they tell what happens from `since` on, and nothing of before."""
        with self.engine.read() as connection:
            known = set(connection.execute(select(channels.c.name)).scalars())
        if new := [{"name": name, "since": since} for name in names if name not in known]:
            with self.engine.write() as connection:
                connection.execute(self.engine.insert(channels).on_conflict_do_nothing(), new)

    def untold_news(self, channel: str, newest_at: float, oldest_at: float) -> list[Notification]:
        """Return news between these times that nobody has made a telling of for this channel, oldest first.

        News of batches of another account is left to the processes of that account.
        """
        since = select(channels.c.since).where(channels.c.name == channel).scalar_subquery()
        planned = exists().where(tellings.c.news_id == news.c.id, tellings.c.channel == channel)
        query = (
            select(news)
            .where(news.c.at >= since, news.c.at >= oldest_at, news.c.at <= newest_at, ~planned)
            .where(self._may_tell())
            .order_by(news.c.id)
        )
        with self.engine.read() as connection:
            return [
                Notification(row.id, NotificationKind(row.kind), row.at, row.batch_id, row.code, row.why)
                for row in connection.execute(query)
            ]

    def _may_tell(self) -> ColumnElement[bool]:
        of_account = select(batches.c.id).where(self._of_account)
        return or_(news.c.batch_id.is_(None), news.c.batch_id.in_(of_account))

    def plan_tellings(self, channel: str, news_ids: Iterable[int]) -> None:
        """Make these news due for a channel; those that are there already are left alone."""
        new = [{"news_id": news_id, "channel": channel, "due_at": self.engine.now()} for news_id in news_ids]
        if new:
            with self.engine.write() as connection:
                connection.execute(self.engine.insert(tellings).on_conflict_do_nothing(), new)

    def claim_telling(self, channel: str, lease_seconds: float) -> ClaimedDelivery | None:
        """Take the oldest news that is due for a channel; nobody else gets it before the lease is over."""
        now = self.engine.now()
        due = (
            select(news, tellings.c.tries)
            .join(tellings, tellings.c.news_id == news.c.id)
            .where(tellings.c.channel == channel, tellings.c.due_at <= now, self._may_tell())
            .order_by(news.c.id)
            .limit(1)
        )
        while True:
            with self.engine.read() as connection:
                row = connection.execute(due).one_or_none()
            if row is None:
                return None
            with self.engine.write() as connection:
                claimed = connection.execute(
                    update(tellings)
                    .where(tellings.c.news_id == row.id, tellings.c.channel == channel)
                    .where(tellings.c.tries == row.tries, tellings.c.due_at <= now)
                    .values(due_at=now + lease_seconds, tries=row.tries + 1)
                ).rowcount
            if claimed:
                found = Notification(row.id, NotificationKind(row.kind), row.at, row.batch_id, row.code, row.why)
                return ClaimedDelivery(found, row.tries + 1)

    def record_told(self, news_id: int, channel: str) -> None:
        """Remember that news was told."""
        with self.engine.write() as connection:
            connection.execute(
                update(tellings)
                .where(tellings.c.news_id == news_id, tellings.c.channel == channel)
                .values(told_at=self.engine.now(), due_at=None)
            )

    def put_telling_off(self, claimed: ClaimedDelivery, channel: str, due_at: float | None) -> None:
        """Let news that could not be told wait until `due_at`, or (None) give it up; unless others have taken it up."""
        with self.engine.write() as connection:
            connection.execute(
                update(tellings)
                .where(tellings.c.news_id == claimed.news.id, tellings.c.channel == channel)
                .where(tellings.c.tries == claimed.tries, tellings.c.told_at.is_(None))
                .values(due_at=due_at)
            )
