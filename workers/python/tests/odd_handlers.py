"""Handlers that fail in odd ways, each named after what is odd."""

import asyncio
import builtins
import collections
import contextvars
import dataclasses
import datetime
import decimal
import functools
import os
import sys
import threading
import time
import types

from tasker_worker import PermanentError, RetryableError, StepHandlerResult, TaskerError, step_handler


class Mute(Exception):
    def __str__(self):
        raise ValueError("I say nothing")

    __repr__ = __str__


class Exits(Exception):
    def __str__(self):
        sys.exit(3)


class Endless(Exception):
    def __str__(self):
        return str(self)


class NoText(Exception):
    def __str__(self):
        return 7


class Bare(PermanentError):
    def __init__(self, card):
        self.card = card


class BareRetryable(RetryableError):
    def __init__(self):
        pass


class Props(PermanentError):
    @property
    def message(self):
        raise KeyError("message")

    @message.setter
    def message(self, value):
        pass

    @property
    def context(self):
        raise SystemExit(1)

    @context.setter
    def context(self, value):
        pass


class Unsure:
    def __bool__(self):
        raise ValueError("the truth value is ambiguous")

    def __repr__(self):
        return "<unsure>"

    def __getattr__(self, name):
        raise RuntimeError(name)


class OddName(type):
    @property
    def __name__(cls):
        raise RuntimeError("no name")


class Nameless(Exception, metaclass=OddName):
    pass


class OddMapping(collections.abc.Mapping):
    def __getitem__(self, key):
        raise RuntimeError("no items")

    def __iter__(self):
        raise RuntimeError("no keys")

    def __len__(self):
        return 1


class Claims(PermanentError):
    """Says that it is of another class."""

    __class__ = property(lambda self: 1 / 0)


def cycle():
    here = {"name": "cycle"}
    here["again"] = here
    return here


def deep():
    here = []
    for _ in range(50_000):
        here = [here]
    return here


def raises(name, error):
    @step_handler(name)
    def fail():
        raise error() if isinstance(error, types.FunctionType) else error


raises("timedelta", RetryableError("busy", retry_after=datetime.timedelta(seconds=1)))
raises("negative_pause", RetryableError("busy", retry_after=-5))
raises("nan_pause", RetryableError("busy", retry_after=float("nan")))
raises("endless_pause", RetryableError("busy", retry_after=float("inf")))
raises("huge_pause", RetryableError("busy", retry_after=10**400))
raises("date_as_pause", RetryableError("busy", retry_after="Wed, 21 Oct 2026 07:28:00 GMT"))
raises("text_as_context", PermanentError("declined", context="card 4242"))
raises("text_as_metadata", PermanentError("declined", metadata="card 4242"))
raises("list_as_context", PermanentError("declined", context=["card", 4242]))
raises("unsure_context", lambda: PermanentError("declined", context=Unsure()))
raises("datetime", RetryableError("busy", context={"at": datetime.datetime(2026, 1, 2, 3, 4, 5)}))
raises("surrogate", lambda: RetryableError(f"no such file: {os.fsdecode(bytes([99, 97, 102, 233]))}.csv"))
raises("surrogate_in_context", PermanentError("declined", context={"fi\udce9le": "caf\udce9", "nul": "a\0b"}))
raises("nan", RetryableError("busy", metadata={"ratio": float("nan"), "most": float("inf")}))
raises("decimal", PermanentError("declined", metadata={"price": decimal.Decimal("9.90")}))
raises(
    "mixed",
    PermanentError(
        "declined", context={"set": {1}, "bytes": b"\xff", 7: None, (1, 2): [True, 1.5], "id": 10**20, "big": 10**5000}
    ),
)
raises("mute_context", PermanentError("declined", context={"error": Mute()}))
raises("cycle", lambda: PermanentError("declined", context=cycle()))
raises("deep", lambda: PermanentError("declined", context={"deep": deep()}))
raises(
    "large_context", PermanentError("declined", context={"a": "x" * 20_000_000, "b": list(range(1_000_000)), "c": 1})
)
raises("odd_mapping", lambda: PermanentError("declined", context=OddMapping()))
raises("large_text", PermanentError("x" * 20_000_000, error_code="c" * 20_000_000))
raises("large_other", lambda: ValueError("é" * 20_000_000))
raises("mute", Mute)
raises("exits", Exits)
raises("endless", Endless)
raises("no_text", NoText)
raises("bare", lambda: Bare("4242"))
raises("bare_retryable", BareRetryable)
raises("props", lambda: Props("declined"))
raises("no_message", PermanentError)
raises("none", PermanentError(None, error_code=7))
raises("unsure", lambda: TaskerError("odd", retryable=Unsure(), error_code=Unsure()))
raises("nameless", Nameless("odd"))
raises("claims", lambda: Claims("declined"))
raises("odd_arguments", ValueError(b"\xff", float("nan"), {1, 2}))
raises("keyboard", KeyboardInterrupt)
raises("generator_exit", GeneratorExit)
raises("system_exit", lambda: SystemExit(Mute()))
raises("memory", MemoryError)
raises("cancelled", asyncio.CancelledError)

if sys.version_info >= (3, 11):
    raises("group", lambda: builtins.ExceptionGroup("two", [ValueError("a"), KeyError("b")]))
    raises(
        "group_of_permanent",
        lambda: builtins.ExceptionGroup("two", [ValueError("a"), PermanentError("declined", error_code="card")]),
    )


@step_handler("recursion")
def recursion():
    return recursion()


@step_handler("changed")
def changed():
    """Returns what another thread changes for as long as the process lives."""
    shared = {str(number): number for number in range(50_000)}

    def change():
        number = 0
        while True:
            number += 1
            shared[f"new {number}"] = number
            shared.pop(f"new {number}")
            if number % 2:
                shared.pop("0", None)
            else:
                shared["0"] = 0

    threading.Thread(target=change, daemon=True).start()
    return shared


class Changing:
    """Behaves as a model that another thread changes whenever it is read."""

    def model_dump(self, mode):
        raise RuntimeError("dictionary changed size during iteration")


@step_handler("always_changing")
def always_changing():
    return {"inside": Changing()}


@dataclasses.dataclass
class Locked:
    lock: object
    name: str = "n"


@dataclasses.dataclass
class Outer:
    inner: object
    at: object = None


class Undumpable:
    def model_dump(self, mode):
        raise ValueError("no dump")


def returns(name, value):
    step_handler(name)(value if callable(value) else lambda: value)


returns("metadata_nan", StepHandlerResult.success({"a": 1}, {"ratio": float("nan")}))
returns("metadata_surrogate", StepHandlerResult.success({"a": 1}, {"file": "caf\udce9"}))
returns("metadata_exact", StepHandlerResult.success({"a": 1}, {"id": 10**20}))
returns("metadata_large", StepHandlerResult.success({"a": 1}, {"text": "x" * 20_000_000}))
returns("metadata_text", StepHandlerResult.success({"a": 1}, Unsure()))
returns("metadata_decimal", StepHandlerResult.success({"a": 1}, {"price": decimal.Decimal("9.90"), "at": {1}}))
returns("decimal_nan", lambda: {"price": decimal.Decimal("NaN")})
returns("decimal_infinity", lambda: {"price": decimal.Decimal("-Infinity")})
returns(
    "metadata_decimal_nan", StepHandlerResult.success({"a": 1}, [decimal.Decimal("sNaN"), decimal.Decimal("Infinity")])
)
returns("echo", lambda context: context.input_data)
returns("kinds", lambda context: [type(value).__name__ for value in context.input_data])
returns("echo_metadata", lambda context: StepHandlerResult.success({}, context.input_data))
returns("echo_checkpoint", lambda context: StepHandlerResult.checkpoint(context.input_data, 1, context.input_data))
returns("nan_result", StepHandlerResult.success(float("nan"), {"a": 1}))
returns("odd_failure", lambda: StepHandlerResult.failure(Mute(), None, Unsure(), "text", Mute()))
returns("failure_with_metadata", lambda: StepHandlerResult.failure("no", "my_type", False, {"at": float("nan")}))
returns("checkpoint_nan", StepHandlerResult.checkpoint(float("nan"), 1))
returns("checkpoint_items", StepHandlerResult.checkpoint(5, -1))
returns("checkpoint_float", StepHandlerResult.checkpoint(5, 7.0))
returns("not_an_outcome", lambda: StepHandlerResult("text"))
returns("locked", lambda: Locked(threading.Lock()))
returns("outer", lambda: Outer(Outer(Locked(None)), [Outer(1)]))
returns("undumpable", lambda: Undumpable())
returns("set", lambda: {1, 2})
returns("generator", lambda: (number for number in range(3)))


@step_handler("beats")
def beats(context):
    beaten = [context.heartbeat() for _ in range(3)]
    raise PermanentError("after beats", context={"beaten": beaten})


# What one step leaves behind, and what all share.

ours = contextvars.ContextVar("ours")
from_start = contextvars.ContextVar("from_start")
from_start.set("set at the import")
decimal.getcontext().prec = 30


def seen_and_set(mark):
    seen = [ours.get(None), from_start.get(None), decimal.getcontext().prec]
    ours.set(mark)
    from_start.set(mark)
    decimal.getcontext().prec = 5
    return seen


@step_handler("context_var")
def context_var(context):
    return {"seen": seen_and_set(context.step_name), "own": ours.get()}


@step_handler("async_context_var")
async def async_context_var(context):
    seen = seen_and_set(context.step_name)
    await asyncio.sleep(0)
    return {"seen": seen, "own": ours.get()}


lock, semaphore, queue = None, None, None


@step_handler("shared")
async def shared():
    """Uses what the first step of the module made, as a client of a database is used."""
    global lock, semaphore, queue
    if lock is None:
        lock, semaphore, queue = asyncio.Lock(), asyncio.Semaphore(2), asyncio.Queue()
    async with semaphore, lock:
        await queue.put(1)
        await asyncio.sleep(0.005)
        return {"got": await queue.get(), "loop": id(asyncio.get_running_loop())}


arrived = []


@step_handler("meet")
async def meet():
    """Ends only if two run at the same time."""
    if not arrived:
        arrived.append(asyncio.Event())
        await asyncio.wait_for(arrived[0].wait(), 60)
    arrived[0].set()
    return {"met": True}


def raises_async(name, error):
    @step_handler(name)
    async def fail():
        await asyncio.sleep(0)
        raise error


raises_async("async_permanent", PermanentError("declined", error_code="card"))
raises_async("async_exit", SystemExit(3))
raises_async("async_keyboard", KeyboardInterrupt())
raises_async("async_cancelled", asyncio.CancelledError())
raises_async("async_mute", Mute())


@step_handler("async_sleeping_text")
async def async_sleeping_text():
    class Slow(Exception):
        def __str__(self):
            time.sleep(3600)

    raise Slow


@step_handler("async_background_exit")
async def async_background_exit():
    async def leave():
        sys.exit(4)

    task = asyncio.create_task(leave())
    await asyncio.wait([task])
    return {"ended": True}


@step_handler("async_stops_the_loop")
async def async_stops_the_loop():
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.01)
    return {"ended": True}


class Callable:
    async def __call__(self):
        await asyncio.sleep(0)
        return {"kind": "callable object"}


async def with_kind(kind):
    await asyncio.sleep(0)
    return {"kind": kind}


class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return {"kind": "awaitable object"}


@step_handler("async_generator")
async def async_generator():
    yield 1


step_handler("async_object")(Callable())
step_handler("async_partial")(functools.partial(with_kind, kind="partial"))
step_handler("async_lambda")(lambda: with_kind("lambda"))
step_handler("awaitable")(lambda: Awaitable())


@step_handler("async_waits")
async def async_waits(context):
    context.heartbeat()
    try:
        await asyncio.sleep(3600)
    finally:
        print("cleaned up", flush=True)


@step_handler("async_raises_when_stopped")
async def async_raises_when_stopped(context):
    context.heartbeat()
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        raise Nameless("odd") from None


@step_handler("async_listens")
async def async_listens(context):
    context.heartbeat()
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        return {"stopped": context.is_cancelled()}


@step_handler("sync_from_async")
def sync_from_async():
    """A plain handler may run a loop of its own."""
    return asyncio.run(with_kind("own loop"))


@step_handler("ok")
def ok():
    return {"ok": True}
