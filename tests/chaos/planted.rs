//! Bugs that are planted to see whether the chaos run finds them: in the SQL functions of a test's own database, and between the
//! engine and the database. The engine itself has no hook for them.

use tokio_postgres::Client;

use crate::statement_proxy::Bugs;

/// What plants a bug in one place: by function, the texts to replace, and their replacements.
pub type Changes = &'static [(&'static str, &'static [(&'static str, &'static str)])];

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A completion is applied under any lease.
    NoFence,
    /// The message of a step is built from what the statement that counted down its parents could see.
    ParentsReadWithTheDecrement,
    /// Of two parents in one batch only one is counted down.
    DecrementNotAggregated,
    /// An operator's retry dispatches under the lease of the failed attempt.
    LeaseNotRaisedAtRetry,
    /// Messages are sent before the commit.
    SendBeforeCommit,
    /// A step whose message was sent is never looked at again.
    WakeUpLostAfterSend,
    /// A sweep takes rows that another sweep has taken and not committed.
    SweepsDoNotSkip,
    /// A step is marked as sent, but its next look does not move.
    NotedForNothing,
    /// A message omits the furthest of the ancestors beyond the parents.
    AncestorForgotten,
    /// A message carries the names of the ancestors beyond the parents, but not their results.
    AncestorWithoutResult,
    /// A process that starts, or that lost an answer, does not look for dispatched steps without a message.
    RecoveryFindsNothing,
}

impl Plant {
    /// Plants the bug in one place of the database, and answers what the proxy must do.
    pub async fn plant(self, place: Changes, sql: &Client) -> Bugs {
        for (function, changes) in place {
            let query = format!("select pg_get_functiondef(oid) from pg_proc where proname = '{function}'");
            let mut body: String = sql.query_one(&query, &[]).await.expect("the function exists").get(0);
            for (from, to) in *changes {
                assert!(body.contains(from), "{self:?}: {function} has changed, and has no {from:?}");
                body = body.replace(from, to);
            }
            sql.batch_execute(&body).await.unwrap_or_else(|e| panic!("{self:?}: {e:?}\n{body}"));
        }
        match self {
            Self::SendBeforeCommit => Bugs { answer_before_commit: true, ..Bugs::default() },
            Self::WakeUpLostAfterSend => {
                Bugs { rewrite: Some(("tasker.clock_after(k.ms)", "'infinity'::timestamptz")), ..Bugs::default() }
            }
            Self::NotedForNothing => Bugs { rewrite: Some(("tasker.clock_after(k.ms)", "s.wake_at")), ..Bugs::default() },
            Self::RecoveryFindsNothing => {
                Bugs { rewrite: Some(("q.state = 'enqueued' and q.wake_at is null offset", "false offset")), ..Bugs::default() }
            }
            _ => Bugs::default(),
        }
    }

    /// It needs the queue inside the process.
    pub fn is_embedded(self) -> bool {
        self == Self::RecoveryFindsNothing
    }

    /// Every place where it can be, each planted by itself.
    pub fn places(self) -> &'static [Changes] {
        match self {
            Self::NoFence => &[
                &[("complete_v1", &[(" and s.lease = i.lease and", " and")])],
                &[("complete_one_v1", &[(" and s.lease = p_lease and", " and")])],
                &[("complete_many_v1", &[(" and s.lease = p_lease[i] and", " and")])],
                &[("expand_v1", &[(" and s.lease = p_lease\n", "\n")])],
            ],
            Self::ParentsReadWithTheDecrement => READ_WITH_THE_DECREMENT,
            Self::DecrementNotAggregated => &[
                &[("complete_v1", &[("c.no, sum(c.n)::int as n", "c.no, c.n"), ("group by 1, 2 order by", "order by")])],
                &[("complete_many_v1", &[("u.no, count(*)::int as n", "u.no, 1 as n"), ("group by 1, 2 order by", "order by")])],
            ],
            Self::LeaseNotRaisedAtRetry => &[&[
                (
                    "retry_step",
                    &[("set state = 'pending', attempt = 0,", "set state = 'pending', attempt = 0, lease = s.lease - 1,")],
                ),
                // The primary key of attempts is a second fence, which would find this immediately.
                (
                    "complete_v1",
                    &[(
                        "'started', 'callback', 'lost')\n  ), forgotten",
                        "'started', 'callback', 'lost') on conflict do nothing\n  ), forgotten",
                    )],
                ),
            ]],
            Self::SweepsDoNotSkip => &[&[("sweep_v1", &[("for update skip locked", "")])]],
            Self::AncestorForgotten => &[
                &[(
                    "load_run_steps_v1",
                    &[(
                        "unnest(s.further_ancestors) n)",
                        "unnest(s.further_ancestors) n where n > (select min(a) from unnest(s.further_ancestors) a))",
                    )],
                )],
                &[(
                    "complete_one_v1",
                    &[(
                        "unnest((d.parents || d.further_ancestors)[:64])",
                        "unnest(array_remove(d.parents || d.further_ancestors, (select min(a) from unnest(d.further_ancestors) a)))",
                    )],
                )],
                &[(
                    "complete_many_v1",
                    &[(
                        "unnest(r.parents || r.further_ancestors)",
                        "unnest(array_remove(r.parents || r.further_ancestors, (select min(a) from unnest(r.further_ancestors) a)))",
                    )],
                )],
            ],
            Self::AncestorWithoutResult => &[
                &[(
                    "load_run_steps_v1",
                    &[(
                        "select p.name, p.result, p.tolerated,",
                        "select p.name, case when u.parent then p.result end as result, p.tolerated,",
                    )],
                )],
                &[("complete_one_v1", &[("(p.name, p.result)", "(p.name, case when p.no = any (d.parents) then p.result end)")])],
                &[(
                    "complete_many_v1",
                    &[("(p.name, p.result)", "(p.name, case when p.no = any (r.parents) then p.result end)")],
                )],
            ],
            Self::SendBeforeCommit | Self::WakeUpLostAfterSend | Self::NotedForNothing | Self::RecoveryFindsNothing => &[&[]],
        }
    }
}

/// The update of the children also reads the results of their ancestors, which the messages then have.
const READ_WITH_THE_DECREMENT: &[Changes] = &[
    &[(
        "advance_v1",
        &[
            ("e_lease int[];", "e_lease int[]; seen text[];"),
            (
                "returning s.task_id, s.no, s.lease, s.state, s.pending_parents)",
                "returning s.task_id, s.no, s.lease, s.state, s.pending_parents, (select json_object_agg(p.name, p.result)::text
                   from tasker.steps p where p.task_id = s.task_id and p.no = any (s.parents || s.further_ancestors)) as results)",
            ),
            (
                "filter (where r.pending_parents = 0 and k_lease is null)",
                "filter (where r.pending_parents = 0 and k_lease is null),
                 array_agg(r.results) filter (where r.state = 'enqueued')",
            ),
            ("e_task, e_no, e_lease, r_task from", "e_task, e_no, e_lease, r_task, seen from"),
            (
                "return query select * from tasker.load_run_steps_v1(e_task[:p_bodies], e_no[:p_bodies], p_max_bytes);",
                "return query select m.kind, m.idx, m.task_id, m.no, m.lease, m.attempt, m.max_attempts, m.resends, m.losses,
                   m.ms, m.state, m.template_id, m.environment, m.correlation_id, m.traceparent, m.context,
                   case when m.kind = 'run' then (select u.results from unnest(e_task, e_no, seen) u(task_id, no, results)
                     where u.task_id = m.task_id and u.no = m.no) end,
                   m.result_bytes, m.inputs, m.checkpoint
                 from tasker.load_run_steps_v1(e_task[:p_bodies], e_no[:p_bodies], p_max_bytes) m;",
            ),
        ],
    )],
    &[(
        "complete_one_v1",
        &[
            ("below int[];", "below int[]; seen text;"),
            (
                "s.inputs, s.checkpoint, s.parents, s.further_ancestors\n",
                "s.inputs, s.checkpoint, s.parents, s.further_ancestors, (select json_object_agg(p.name, p.result)::text
                   from tasker.steps p where p.task_id = s.task_id and p.no = any (s.parents || s.further_ancestors))\n",
            ),
            ("d.checkpoint, d.parents, d.further_ancestors;", "d.checkpoint, d.parents, d.further_ancestors, seen;"),
            ("if cardinality(d.parents ||", "answer.results := seen; if cardinality(d.parents ||"),
        ],
    )],
    &[(
        "complete_many_v1",
        &[
            ("rest int[];", "rest int[]; seen json;"),
            (
                "s.further_ancestors)::tasker.dispatched as d)",
                "s.further_ancestors)::tasker.dispatched as d, (select json_object_agg(p.name, p.result)
                   from tasker.steps p where p.task_id = s.task_id and p.no = any (s.parents || s.further_ancestors)) as results)",
            ),
            (
                "array_agg(h.task_id) into ready, r_task from",
                "array_agg(h.task_id), json_object_agg(h.task_id::text || (h.d).no, h.results) into ready, r_task, seen from",
            ),
            ("else s.results end", "else seen->>(s.task_id::text || s.no) end"),
        ],
    )],
];
