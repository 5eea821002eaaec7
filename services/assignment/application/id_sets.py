"""The id lists that decisions need, in memory for as long as something decides by them."""

from weakref import WeakValueDictionary

from touchstone_assignment.conditions import IdSet

from services.assignment.ports import IdLists


class IdSets:
    """From the digest of a list to its content: `id_sets(digest)`.

    A content is read once and shared, by projects and versions too: equal digests are equal lists.
    """

    def __init__(self, lists: IdLists) -> None:
        self._lists = lists
        self._held: WeakValueDictionary[str, IdSet] = WeakValueDictionary()

    def __call__(self, digest: str) -> IdSet:
        """The content; LookupError without it, UNAVAILABLE when the store is away.

        ValueError when what is stored is not what the digest names.
        """
        found = self._held.get(digest)
        if found is None:
            content = self._lists.anywhere(digest)
            if content is None:
                raise LookupError(f"the id list {digest!r} is not in the store")
            found = IdSet.from_fingerprints(content)
            if found.digest != digest:
                raise ValueError(f"the id list {digest!r} is damaged in the store")
            self._held[digest] = found
        return found
