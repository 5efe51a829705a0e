//! The limits that callers and operators can see, each with its reason.

/// Bytes of a task's context. Every message of the task contains it, and an SQS message holds 1 MiB.
pub const CONTEXT_BYTES: usize = 256 * 1024;
/// Bytes of the metadata of an outcome or operator action, and of a failure's `context`. Workers cut a context to it, and the SDKs also
/// metadata. With [`ERROR_CHARS`] it keeps a failure below the 1 MiB of an SQS message.
pub const METADATA_BYTES: usize = 256 * 1024;
/// Bytes of any result: the limit of a synchronous Lambda response. A handler with more data stores it and returns a reference.
pub const RESULT_BYTES: usize = 6 * 1024 * 1024;
/// Bytes of all inputs of a step together, as for one result.
pub const INPUT_BYTES: usize = 6 * 1024 * 1024;
/// Declared steps of a template. A task is inserted in one statement and must stay well under a second.
pub const STEPS: usize = 10_000;
/// Steps that the batches of a task make, beside its declared ones. They are inserted in one statement, and all of them may be parents of one step.
pub const MADE_STEPS: usize = 10_000;
/// Declared parents of a step. The message of a join contains all their results.
pub const PARENTS: usize = 10_000;
/// Decisions and batches that the convergences of a template wait for, added up. Each is one more parent in a row.
pub const GUARDS: usize = 100_000;
/// Ancestors beyond the parents whose results a message contains.
pub const FURTHER_ANCESTORS: usize = 32;
/// Decisions of a template that follow one another. A task of more is hard to follow, and may as well start others.
pub const DECISION_DEPTH: usize = 20;
/// Bytes of a template file.
pub const TEMPLATE_BYTES: usize = 4 * 1024 * 1024;
/// Nesting of a template. An unoptimized YAML reader needs 24 KB of stack per level, and threads have 2 MB.
pub const TEMPLATE_DEPTH: usize = 48;
/// Bytes of a JSON request body: room for the largest result. The body of a template is limited by [`TEMPLATE_BYTES`].
pub const BODY_BYTES: usize = 2 * TEMPLATE_BYTES;
/// Characters of a name (template, step, callable, key).
pub const NAME_CHARS: usize = 128;
/// Characters of a batch's id, which ends the names of its worker.
pub const BATCH_ID_CHARS: usize = 64;
/// Characters of a namespace or pool, which become part of queue names.
pub const NAMESPACE_CHARS: usize = 29;
/// Characters of a free text in a request (initiator, source system, reason, idempotency key).
pub const TEXT_CHARS: usize = 500;
pub const TAGS: usize = 20;
/// Faults reported for one input.
pub const FAULTS: usize = 200;
pub const PAGE: u32 = 100;
/// Rows that a list counts; this is also the largest total it reports. A page number is not worth a scan of millions of rows.
pub const COUNTED_ROWS: i64 = 100_000;
/// Bytes of contexts or results in one list. The list omits the rest; a request for a single task or step returns them.
pub const LISTED_BYTES: usize = 4 * 1024 * 1024;
/// Entries that one request recovers. Each is a transaction of its own, and the request must end in time.
pub const RECOVERED_ENTRIES: u32 = 100;
/// Pending DLQ entries that one request looks at for those that match. The next request continues.
pub const MATCHED_ENTRIES: i64 = 10_000;
/// Template versions in one list. The namespace filter reaches the others.
pub const LISTED_TEMPLATES: i64 = 10_000;
/// Steps that an explanation of a task lists: what holds the task up comes first. An answer of 10,000 sentences would be megabytes.
pub const EXPLAINED_STEPS: i32 = 1_000;
/// Names in one sentence. A list of hundreds of pools or templates hides what the sentence says.
pub const LISTED_NAMES: usize = 10;
/// Nesting of a JSON document. PostgreSQL's and Python's parsers accept this much.
pub const JSON_DEPTH: usize = 100;
/// Digits of a number, without zeros at its ends. A double written in full has at most 767, and every comparison of two identities
/// reads all of them.
pub const NUMBER_DIGITS: usize = 1_000;
/// The exponent of the first digit of the smallest number: readers with doubles, such as Python's, take a smaller one for 0. A
/// number beyond the largest double, 1.8e308, they cannot read at all.
pub const NUMBER_EXPONENT: i64 = -324;
/// Attempts of a step.
pub const MAX_ATTEMPTS: u32 = 100;
/// Milliseconds of a backoff, or of an outcome's hint for it.
pub const BACKOFF_MS: u64 = 24 * 3600 * 1000;
/// Seconds of a step's timeout. Longer work should checkpoint.
pub const TIMEOUT_SECONDS: u32 = 24 * 3600;
/// Seconds that a step may wait for its callback.
pub const CALLBACK_SECONDS: u32 = 30 * 24 * 3600;
/// Characters kept of a failure's message, type and code. Workers cut them already, so that a failure always fits its queue.
pub const ERROR_CHARS: usize = 4_000;
/// Seconds that a request may wait for a task to finish. API Gateway gives up after 29.
pub const WAIT_SECONDS: u32 = 25;
/// Completions that one call applies. A larger batch only adds latency.
pub const COMPLETION_BATCH: usize = 200;
/// Rows that one sweep handles. The next sweep continues.
pub const SWEEP_ROWS: i64 = 500;
/// Requests in progress; further ones are rejected. A request that waits for a task to finish does not count. This many keep the
/// connections to the database busy, and each still makes progress.
pub const REQUESTS: usize = 256;
/// Seconds in which the body of a request must arrive. Until then the request counts as one in progress.
pub const BODY_SECONDS: u64 = 10;
/// Seconds for the head of a request, from the connection or the last response. Load balancers keep idle connections for 60 s and
/// expect the server to keep them longer.
pub const HEAD_SECONDS: u64 = 75;
/// Connections of HTTP clients, which bounds waiting requests too. A further one gets 503. Each costs about 40 KB.
pub const CONNECTIONS: usize = 2048;
/// Dispatched steps in the in-process queue, waiting or running, above which no new task is accepted: it would only slow the others
/// down. The steps of accepted tasks are dispatched all the same.
pub const DISPATCHED_STEPS: usize = 100_000;
/// Bytes of message bodies in the in-process queue. Beyond it the queue keeps only keys, and loads a body on receipt.
pub const QUEUED_BYTES: usize = 64 * 1024 * 1024;
/// How often, under one attempt, a worker may be lost or die while it runs only this step, before the step is blamed.
pub const LOSSES: i32 = 3;
/// Milliseconds after a dispatch until a sweep re-sends what the queue did not accept.
pub const SEND_LEASE_MS: i64 = 30_000;
/// Milliseconds after which a step held by a pause is evaluated again.
pub const HOLD_MS: i64 = 60_000;
/// Seconds after its timeout in which a started step must be answered. Its worker enforces the timeout, so silence means a lost worker.
pub const SILENCE_SECONDS: u32 = 10;
/// Bytes of one line from a child process. Above [`RESULT_BYTES`], so that a step whose result is too large fails with that reason.
pub const WORKER_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of one line from a child process that are read at all. Of a longer line than [`WORKER_LINE_BYTES`] only a failure's texts are kept,
/// so that the failure stays itself; beyond this limit the line is taken as endless, and its process is killed.
pub const ENDLESS_LINE_BYTES: usize = 256 * 1024 * 1024;
/// Bytes kept of one line of a child's stdout or stderr. Log collectors cut longer ones anyway.
pub const LOG_LINE_BYTES: usize = 8 * 1024;
/// Lines kept per second of a child's stdout, and as many of its stderr. A flood must not hide other logs.
pub const LOG_LINES_PER_SECOND: u32 = 1_000;
/// Seconds between two forwarded heartbeats of a step. Deadlines are tens of seconds.
pub const HEARTBEAT_SECONDS: u64 = 5;
/// Milliseconds in which the handler of a cancelled step may stop by itself, before its process is ended. A handler that looks every
/// second notices, and the place is free again within seconds.
pub const STOP_MS: u64 = 3_000;
/// The same for a step that exceeded its timeout. Short, because its outcome must arrive within [`SILENCE_SECONDS`], and in the last 5 s
/// of an invocation.
pub const LATE_STOP_MS: u64 = 1_000;
/// Processes that each run one step alone, of those whose process ended beside them. Each may need as much memory as the process of new
/// steps.
pub const LONE_PROCESSES: usize = 3;
/// Seconds that a worker's process may be given until it is ready: an hour, for what loads large models. The default is 30.
pub const READY_SECONDS: i64 = 3_600;
/// How many times as long a worker's process is waited for that visibly works, but is not ready. One that never will be ends then.
pub const READY_TIMES: u32 = 10;
