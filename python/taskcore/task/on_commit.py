"""Publishing a task once a transaction of Django's is committed, under Celery's names."""

from __future__ import annotations

from taskcore.config.conf import uses_django
from taskcore.exceptions import NotSupportedError
from taskcore.publishing import call_options
from taskcore.typed import TYPE_CHECKING, Any, Callable, Generic, Iterable, Mapping, P, R, Unpack


class OnCommit(Generic[P, R]):
    """What `Task` has of it."""

    if TYPE_CHECKING:
        name: Any
        delay: Any
        apply_async: Any
        _check_arguments: Callable[..., object] | None

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """`delay` after the transaction of Django's default database is committed: never when it is
        rolled back, at once outside of a transaction.

        Raises:
            TypeError: the arguments do not fit the function.
            NotSupportedError: the program does not use Django.
        """
        if self._check_arguments is not None:
            self._check_arguments(*args, **kwargs)
        _on_commit("delay_on_commit", lambda: self.delay(*args, **kwargs), None)

    def apply_async_on_commit(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        *,
        using: str | None = None,
        **options: Unpack[call_options.CallOptions],
    ) -> None:
        """`apply_async` after a transaction of Django's is committed.

        Args:
            args, kwargs, task_id, options: as for `apply_async`.
            using: the database; default: Django's default one.
        Raises:
            TypeError: the arguments do not fit the function.
            NotSupportedError: the program does not use Django.
        """
        positional = call_options.to_args(self.name, args)
        named = call_options.to_kwargs(self.name, kwargs)
        if self._check_arguments is not None:
            self._check_arguments(*positional, **named)

        def publish() -> object:
            return self.apply_async(positional, named, task_id, **options)

        _on_commit("apply_async_on_commit", publish, using)


def _on_commit(method: str, publish: Callable[[], object], using: str | None) -> None:
    if not uses_django():
        raise NotSupportedError(
            f"`{method}` needs Django, which this program does not configure: set DJANGO_SETTINGS_MODULE, or publish "
            "after the commit by yourself"
        )
    from django.db import transaction

    transaction.on_commit(publish, using=using)
