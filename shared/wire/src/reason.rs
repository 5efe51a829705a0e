//! Why a task or a step does not move, or what it does, and what an operator can do about it. `tasker-domain` finds it out.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::state::words;

words! {
    /// Why a step that is not done is where it is. Those that hold others up come first.
    StepReason {
        /// It failed, and no attempt follows.
        Failed = "failed",
        /// It was cancelled: with its task, or because another worker of its batch failed.
        Cancelled = "cancelled",
        /// It waits for a place in a batch that passes none on, because a worker failed.
        BatchStopped = "batch_stopped",
        /// It is dispatched to a pool without a known worker.
        NoWorkers = "no_workers",
        /// Its message was given up.
        DeadLetter = "dead_letter",
        /// It could be dispatched, and a pause prevents it.
        Held = "held",
        /// Its worker did not report until its deadline, or its callback did not come in time.
        Silent = "silent",
        /// What held it has ended, and the sweep has not come to it yet.
        Resuming = "resuming",
        /// An attempt failed; the next one follows after a backoff.
        WaitingForRetry = "waiting_for_retry",
        /// Its handler will answer by a callback.
        WaitingForCallback = "waiting_for_callback",
        /// A worker reported the start.
        Running = "running",
        /// It is dispatched, and no worker has reported its start.
        WaitingForWorker = "waiting_for_worker",
        /// It waits for a step that never ends by itself.
        Blocked = "blocked",
        /// It is a batch worker that waits for a place.
        WaitingForPlace = "waiting_for_place",
        /// It waits for decisions and batchable steps that may add to its parents.
        WaitingForDecision = "waiting_for_decision",
        /// It waits for parents that are not done.
        WaitingForParents = "waiting_for_parents",
        /// Its task was resolved: it never runs.
        Abandoned = "abandoned",
        /// Nothing that is known keeps it from running. This is a defect of the orchestrator.
        Unexplained = "unexplained",
        /// It failed, and its batch goes on.
        Tolerated = "tolerated",
    }
}

words! {
    /// Why a task is where it is.
    TaskReason {
        /// Every step is done.
        Complete = "complete",
        /// An operator ended it.
        Cancelled = "cancelled",
        /// It failed, and an operator ended it so.
        ResolvedManually = "resolved_manually",
        /// A step failed, and no other one can move.
        Failed = "failed",
        /// A step failed, and others still move.
        Failing = "failing",
        /// A pause holds all that could move.
        Held = "held",
        /// Steps can move.
        Running = "running",
        /// Its template is missing, or written for a newer version.
        NoTemplate = "no_template",
    }
}

words! {
    /// What an operator can do.
    Remedy {
        /// Retry the step.
        Retry = "retry",
        /// Reopen the task.
        Reopen = "reopen",
        /// End the pause of the task.
        Resume = "resume",
        /// End the pause of its template.
        ResumeTemplate = "resume_template",
        /// End the pause of its namespace.
        ResumeNamespace = "resume_namespace",
        /// Start workers of the pool.
        StartWorkers = "start_workers",
        /// Look why the message was given up.
        ExamineDeadLetters = "examine_dead_letters",
        /// Compare the rows with what they should be.
        RunDoctor = "run_doctor",
    }
}
