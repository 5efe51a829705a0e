//! Every limit of the product, with its reason. A limit that is not here does not exist.

/// Bytes of a task's context. It travels in every message of the task, and a queue's message holds 1 MiB.
pub const CONTEXT_BYTES: usize = 256 * 1024;
/// Bytes of a result that travels inside a message; a larger one is fetched by reference.
pub const INLINE_RESULT_BYTES: usize = 256 * 1024;
/// Bytes of a result at all. What a synchronous function answer may hold; beyond it, store the data and return a reference.
pub const RESULT_BYTES: usize = 6 * 1024 * 1024;
/// Bytes of all inputs of a step together; the same bound as one result.
pub const INPUT_BYTES: usize = 6 * 1024 * 1024;
/// Steps of a task, declared and created together. A task is inserted in one statement and must stay well under a second.
pub const STEPS: usize = 10_000;
/// Parents of a step; the message of a join holds all their results.
pub const PARENTS: usize = 10_000;
/// Further ancestors whose results a message carries besides the parents'.
pub const FURTHER_ANCESTORS: usize = 32;
/// Bytes of a template file.
pub const TEMPLATE_BYTES: usize = 4 * 1024 * 1024;
/// Nesting of a template. The YAML reader takes 24 KB of stack a level where it is not optimized, and threads have 2 MB.
pub const TEMPLATE_DEPTH: usize = 48;
/// Bytes of an HTTP body: a template as YAML inside a JSON string, escaped.
pub const BODY_BYTES: usize = 2 * TEMPLATE_BYTES;
/// Characters of a name (template, step, callable, key).
pub const NAME_CHARS: usize = 128;
/// Characters of a namespace; it becomes part of queue names.
pub const NAMESPACE_CHARS: usize = 29;
/// Characters of a free text of a request (initiator, source system, reason, idempotency key).
pub const TEXT_CHARS: usize = 500;
/// Tags of a task.
pub const TAGS: usize = 20;
/// Faults reported of one input; whoever has so many fixes the first ones first.
pub const FAULTS: usize = 200;
/// Rows of a page.
pub const PAGE: u32 = 100;
/// Rows that a list counts; beyond it the total is given as this number. Counting millions of rows for a page number is not worth a scan.
pub const COUNTED_ROWS: i64 = 100_000;
/// Bytes of contexts, or of results, in one list; what comes after is left out of the list and shown when it is asked for alone.
pub const LISTED_BYTES: usize = 4 * 1024 * 1024;
/// Versions of templates in one list. Whoever has more asks for a namespace.
pub const LISTED_TEMPLATES: i64 = 10_000;
/// Nesting of a JSON document; the parsers on the way (PostgreSQL's, Python's) all stand this much.
pub const JSON_DEPTH: usize = 100;
/// Tries of a step.
pub const MAX_ATTEMPTS: u32 = 100;
/// Milliseconds of a back-off or of a hint for one.
pub const BACKOFF_MS: u64 = 24 * 3600 * 1000;
/// Seconds of a step's time-out; work beyond it should checkpoint.
pub const TIMEOUT_SECONDS: u32 = 24 * 3600;
/// Seconds that a step may wait for a callback.
pub const CALLBACK_SECONDS: u32 = 30 * 24 * 3600;
/// Characters kept of an error message.
pub const ERROR_CHARS: usize = 4_000;
/// Seconds that a request may wait for a task to finish; gateways in front of us give up at 29.
pub const WAIT_SECONDS: u32 = 25;
/// Completions that one call applies. Beyond it only latency grows.
pub const COMPLETION_BATCH: usize = 200;
/// Rows that one sweep takes up; the next one goes on.
pub const SWEEP_ROWS: i64 = 500;
/// Requests that are worked on at once; one more is refused. What waits for a task to finish is not worked on. Far above what keeps
/// the connections to the database busy, and little enough that each gets on.
pub const REQUESTS: usize = 256;
/// Seconds in which the body of a request must come: until then it keeps one of their places.
pub const BODY_SECONDS: u64 = 10;
/// Seconds for the head of a request, counted from the connection or the last answer. Load balancers keep idle connections for 60 s and
/// expect the server to keep them longer.
pub const HEAD_SECONDS: u64 = 75;
/// Connections of HTTP clients, and so also requests that wait; one more is told to come back. Each costs some 40 KB.
pub const CONNECTIONS: usize = 2048;
/// Steps handed over to workers of this process, waiting or running, above which no new task is taken: it would only wait, and those
/// that are there with it. What tasks that were taken make ready is handed over all the same.
pub const HANDED_OVER: usize = 100_000;
/// Bytes of message bodies that the in-process queue keeps; beyond it, it keeps keys and loads the body when it is asked for.
pub const QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// How often a worker may be lost, or die alone, under one attempt before the step is blamed.
pub const LOSSES: i32 = 3;
/// Milliseconds between the hand-over and the sweep that sends again what the queue did not accept.
pub const SEND_LEASE_MS: i64 = 30_000;
/// Milliseconds after which a step held by a pause is looked at again.
pub const HOLD_MS: i64 = 60_000;
/// Seconds that a started step may be silent beyond its time-out; its worker enforces the time-out, so silence means a lost worker.
pub const SILENCE_SECONDS: u32 = 10;
/// Bytes of one line that a worker's child process may write to its pipe. Above [`RESULT_BYTES`], so that a result that is too large is told so.
pub const WORKER_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Bytes kept of one line that a child process writes to its stdout or stderr; collectors cut longer ones anyway.
pub const LOG_LINE_BYTES: usize = 8 * 1024;
/// Lines a second kept of a child's stdout, and as many of its stderr; a flood must not drown everything else.
pub const LOG_LINES_PER_SECOND: u32 = 1_000;
/// Seconds between two heartbeats of a step that are passed on; deadlines are counted in tens of seconds.
pub const HEARTBEAT_SECONDS: u64 = 5;
