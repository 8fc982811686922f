"""Methods that are described once: what plays them at once blocks, the other one is awaited.

    class Operations:
        @operation
        def stats(self) -> Plan[Stats]: ...

`Client(…).stats()` is a Stats, `AsyncClient(…).stats()` an awaitable of one. A `stream` is an
iterator of values on the one, an asynchronous iterator on the other.
"""

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

from market_data_collector.effects import Flow, Plan
from market_data_collector.senders import AwaitingSender, Sender

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """What plays its operations at once."""

    _sender: Sender


class Awaiting:
    """What plays its operations in an event loop."""

    _sender: AwaitingSender


class operation(Generic[P, T]):
    """A method with one answer."""

    def __init__(self, plan: Callable[Concatenate[Any, P], Plan[T]]) -> None:
        self.plan = plan
        functools.update_wrapper(cast(Any, self), plan)

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...

    @overload
    def __get__(self, instance: Blocking, owner: Any = None) -> Callable[P, T]: ...

    @overload
    def __get__(
        self, instance: Awaiting, owner: Any = None
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self

        @functools.wraps(self.plan)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance._sender.run(self.plan(instance, *args, **kwargs))

        return method


class stream(Generic[P, T]):
    """A method with many values, one after the other."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self.flow = flow
        functools.update_wrapper(cast(Any, self), flow)

    @overload
    def __get__(self, instance: None, owner: Any = None) -> Self: ...

    @overload
    def __get__(
        self, instance: Blocking, owner: Any = None
    ) -> Callable[P, Generator[T, None, None]]: ...

    @overload
    def __get__(
        self, instance: Awaiting, owner: Any = None
    ) -> Callable[P, AsyncGenerator[T, None]]: ...

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self

        @functools.wraps(self.flow)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return instance._sender.flow(self.flow(instance, *args, **kwargs))

        return method
