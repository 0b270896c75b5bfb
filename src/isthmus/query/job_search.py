"""Queries over `devices.jobs`, whose rows are judged at hand: what became of scheduled jobs at single devices.

Of these rows whole ones can be asked for, and nothing that is a twin's (IoT Hub developer guide, "Query language",
"Get started with jobs queries").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from isthmus.base.errors import Code, HubError
from isthmus.base.filters import Comparison, Constant, Field, Filter, Order, fields, terms_of
from isthmus.query.syntax import Query
from isthmus.query.where import Member, Vocabulary, compile_where

_JOB_ID = ("jobId",)
_NAMES = (
    "deviceId", "moduleId", "jobId", "jobType", "status", "startTimeUtc", "endTimeUtc", "createdDateTimeUtc",
    "lastUpdatedDateTimeUtc", "outcome", "error",
)  # fmt: skip


def _stands_at(name: str) -> Member:
    return lambda below: Field((name, *below))


_MEMBERS: Mapping[str, Member] = MappingProxyType(
    {**{name.lower(): _stands_at(name) for name in _NAMES}, "createdtimeutc": _stands_at("createdDateTimeUtc")}
)
"""The guide's examples have a shorter name for when a row was made."""

JOBS = Vocabulary("rows of devices.jobs", _MEMBERS)


@dataclass(frozen=True, slots=True)
class JobSearch:
    """What rows are asked for: at most `top`, None for all. `job_id` is the only job that is meant, empty for any."""

    where: Filter
    job_id: str
    top: int | None

    @property
    def asks_outcome(self) -> bool:
        """True when it looks at what devices answered."""
        return any(path[0] == "outcome" for path in fields(self.where))


def job_search(query: Query) -> JobSearch:
    """The search of a query over `devices.jobs`; raises `ARGUMENT_INVALID` for what cannot be asked of it."""
    if query.select or query.group_by:
        raise HubError(Code.ARGUMENT_INVALID, "Of devices.jobs only SELECT * can be asked, without GROUP BY")
    where = compile_where(query.where, JOBS)
    return JobSearch(where, _only_job(where), query.top)


def _only_job(where: Filter) -> str:
    for term in terms_of(where):
        match term:
            case Comparison(Order.EQUAL, Field(path), Constant(str() as job_id)) if path == _JOB_ID:
                return job_id
    return ""
