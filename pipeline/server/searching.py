"""Searches of many people at once over one index in memory, which follows the gallery as it grows."""

import threading
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.audit import Actor
from pipeline.build import build_extractor
from pipeline.errors import GalleryMismatchError, UsageError
from pipeline.filters import SearchFilter, TimeOfDay
from pipeline.query import SearchOptions, check_filter, read_config, search_rules
from pipeline.replies import search_record, search_reply
from pipeline.search import Example, Searcher, SearchResult
from pipeline.server.access import Caller
from pipeline.server.problems import ProblemError
from pipeline.server.queries import Kept, keep_spot, query_of
from pipeline.server.schemas import Example as Asked
from pipeline.server.schemas import Filters, SearchRequest
from pipeline.server.sight import visible_tracklet
from pipeline.server.workers import Workers
from pipeline.store import DATABASE, Store
from reid.embedding import rounded
from reid.gallery import index_device

if TYPE_CHECKING:
    from pipeline.server.desk import Desk
    from reid.extractor import Extractor

_ATTEMPTS = 3  # of a search during which something was erased
_MOST_TO_EMBED = 16  # pictures that wait


class SearchDesk:
    """The index of a gallery, searched by a few threads; and the model, used by one."""

    def __init__(self, root: Path, *, threads: int, device: str) -> None:
        """Nothing is read until somebody searches.

        Args:
            root: The gallery's folder.
            threads: Searches that are computed at a time.
            device: For embedding pictures, and for the index.
        """
        self.workers = Workers(root, threads=threads, name="search")
        self.models = Workers(root, threads=1, name="embed", most_waiting=_MOST_TO_EMBED)
        self._root = root
        self._device = device
        self._lock = threading.Lock()
        self._searcher: tuple[object, Searcher] | None = None
        self._extractor: Extractor | None = None

    def close(self) -> None:
        """End what is under way."""
        self.workers.close()
        self.models.close()

    def searcher(self, store: Store, options: SearchOptions, config: Any) -> Searcher:
        """The index as it is now, for one search of this thread, by these rules."""
        with self._lock:
            store.follow_model()
            found = (self._root / DATABASE).stat()
            calibration = store.calibration  # which a run that is started may replace
            search = None if config is None else config.search
            key = (found.st_dev, found.st_ino, store.model_id, search, calibration.to_dict())
            if self._searcher is None or self._searcher[0] != key:
                rules = replace(search_rules(config, SearchOptions()), device=index_device(self._device))
                self._searcher = key, Searcher(store, calibration, rules=rules)
            shared = self._searcher[1]
        return shared.at_this_moment(store, rules=search_rules(config, options))

    def load_model(self) -> "Extractor":
        """The model that filled the gallery, as its run's config names it; on the one thread that runs models.

        Raises:
            UsageError: When no run says which model that was, or its weights are gone.
        """
        if self._extractor is None:
            self._extractor = build_extractor(read_config(self._root).reid.weights, self._device)
        return self._extractor

    def prepare_model(self) -> None:
        """Load the model while whoever will need it looks at what they are about to search for."""
        if self._extractor is None:
            self.models.submit(self.load_model)

    def embed(self, store: Store, kept: Kept) -> None:
        """Give a query its vector.

        Raises:
            GalleryMismatchError: When the model is not the one that filled the gallery.
            UsageError: When no run says which model that was.
        """
        if kept.vector is not None:
            return
        extractor = self.load_model()
        if extractor.model_id != store.model_id:
            raise GalleryMismatchError(
                f"the gallery was filled by model {store.model_id}, but pictures would be embedded by model"
                f" {extractor.model_id}; search by a stored tracklet, or use the same weights"
            )
        kept.vector = rounded(extractor.extract([kept.clip], [kept.query.modality]))[0]


async def search_for(desk: "Desk", caller: Caller, asked: SearchRequest) -> dict[str, Any]:
    """Search, and record who searched for whom; what cannot be recorded is not told."""
    actor = desk.actor(caller, case_id=asked.case_id, purpose=asked.purpose)
    wanted = _filter_of(asked)
    options = SearchOptions(asked.rerank, asked.false_match_rate, desk.device)
    config = desk.config
    examples = [await _ready(desk, caller, each) for each in asked.examples]
    negatives = [await _ready(desk, caller, each) for each in asked.negatives]

    def job(store: Store) -> SearchResult:
        _check(desk, store, caller, actor, wanted)
        for name in (each for each in (*examples, *negatives) if isinstance(each, str)):
            visible_tracklet(store, caller, name)
        for attempt in range(_ATTEMPTS):
            searcher = desk.search.searcher(store, options, config)
            try:
                return searcher.by_examples(
                    [_example(searcher, each) for each in examples],
                    wanted,
                    negatives=[_example(searcher, each) for each in negatives],
                    visible=caller.cameras,
                )
            except (ValueError, KeyError):  # a tracklet was erased while it was looked at
                if attempt == _ATTEMPTS - 1:
                    raise
        raise AssertionError

    reply = await desk.search.workers.use(lambda store: search_reply(job(store)))
    await desk.recorder.record(actor, "search", *search_record(wanted, options, reply))
    return reply


def _check(desk: "Desk", store: Store, caller: Caller, actor: Actor, wanted: SearchFilter) -> None:
    """Refuse what may not be asked, before anything is done."""
    try:
        desk.audit(store).require(actor)
    except UsageError as error:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error), kind="purpose-required") from None
    check_filter(store, desk.config, wanted, said=("filters.cameras:", "filters.zones:"), visible=caller.cameras)


def _filter_of(asked: SearchRequest) -> SearchFilter:
    filters: Filters = asked.filters
    return SearchFilter(
        modalities=frozenset(filters.modalities) if filters.modalities else None,
        cameras=frozenset(filters.cameras) if filters.cameras else None,
        start=filters.start,
        end=filters.end,
        top_k=asked.top_k,
        time_of_day=TimeOfDay.parse(filters.time_of_day) if filters.time_of_day is not None else None,
        zones=frozenset(filters.zones) if filters.zones else None,
        min_quality=filters.min_quality,
        persons=frozenset(int(each[1:]) for each in filters.persons) if filters.persons else None,
        include_own=filters.include_own,
    )


async def _ready(desk: "Desk", caller: Caller, asked: Asked) -> str | Kept:
    """A tracklet id, or a picture with its vector."""
    if asked.tracklet_id is not None:
        return asked.tracklet_id
    kept = (
        await keep_spot(desk, caller, asked) if asked.query_id is None else await query_of(desk, caller, asked.query_id)
    )
    if kept.origin.tracklet_id is not None:
        return kept.origin.tracklet_id
    await desk.models.use(lambda store: desk.search.embed(store, kept))
    return kept


def _example(searcher: Searcher, each: str | Kept) -> Example:
    if isinstance(each, str):
        return searcher.example_of(each)
    if each.vector is None:
        raise ValueError("a query was not embedded")
    return Example(each.query, each.vector)
