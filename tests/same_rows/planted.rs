//! Differences planted in the functions of one database. A life must find each of them.

use tasker_test_support::Chance;

use crate::{CALLS, life::Life, twins::Twins};

/// Lives that may be needed. A difference is found in the first to third of them most of the time.
const MOST: u64 = 30;

/// A name, a function, a part of its text, and the replacement that is the difference.
type Difference = (&'static str, &'static str, &'static str, &'static str);

const GENERAL: &[Difference] = &[
    ("no fence", "complete_v1", "s.lease = i.lease and s.state in", "s.state in"),
    ("a failed task is complete", "advance_v1", "then 'error' else 'complete'", "then 'complete' else 'complete'"),
    ("the entry for an operator is forgotten", "advance_v1", "where u.state = 'error'", "where false"),
    ("a held step is dispatched", "advance_v1", "t.paused_at is not null or", ""),
];

const COMPLETE_ONE: &[Difference] = &[
    ("no fence", "complete_one_v1", "s.lease = p_lease and s.state in", "s.state in"),
    ("an earlier attempt leaves its failure and checkpoint", "complete_one_v1", "error = null, checkpoint = null,", ""),
    ("a callback is still awaited", "complete_one_v1", "awaits_callback = false,", ""),
    ("a paused task goes on", "complete_one_v1", "t.paused_at is not null or exists", "exists"),
    ("a paused template goes on", "complete_one_v1", "p.template in ('', t.name)", "p.template = ''"),
    ("a paused namespace goes on", "complete_one_v1", "p.template in ('', t.name)", "p.template = t.name"),
    ("more messages than were asked for", "complete_one_v1", "> least(3, p_bodies)", "> 3"),
    (
        "the result of one parent for those of several",
        "complete_one_v1",
        "d.parents = array[p_no] and d.further_ancestors = '{}'",
        "true",
    ),
    (
        "a result that is too large is sent",
        "complete_one_v1",
        "case when answer.result_bytes <= p_max_bytes then",
        "case when true then",
    ),
    ("results beyond the sixty-fourth are lost", "complete_one_v1", "cardinality(d.parents || d.further_ancestors) > 64 or", ""),
    ("large results are lost", "complete_one_v1", " or largest > p_max_bytes / 64", ""),
    ("a parent that is not the last counts as replaced", "complete_one_v1", "if ready <> 1 then", "if below = '{}' then"),
    (
        "the task stays named as running in the process",
        "complete_one_v1",
        "delete from tasker.in_process p where p.task_id = p_task",
        "null",
    ),
    ("the entry for an operator is forgotten", "complete_one_v1", "perform tasker.enter_failed(array[p_task])", "null"),
];

const COMPLETE_MANY: &[Difference] = &[
    ("no fence", "complete_many_v1", "s.lease = p_lease[i] and s.state in", "s.state in"),
    ("an earlier attempt leaves its failure and checkpoint", "complete_many_v1", "error = null, checkpoint = null,", ""),
    ("the answers to the rest are given to others", "complete_many_v1", "answer.idx := rest[answer.idx];", ""),
    ("paused templates go on", "complete_many_v1", "exists (select from tasker.pauses) or", ""),
    ("paused tasks go on", "complete_many_v1", "or exists (select from tasker.tasks t where t.paused_at is not null)", ""),
    ("two parents in a batch count as one", "complete_many_v1", "count(*)::int as n", "1 as n"),
    (
        "as many ended as became ready, but in other tasks",
        "complete_many_v1",
        "d_task is distinct from r_task",
        "cardinality(d_task) is distinct from cardinality(r_task)",
    ),
    ("if anything became ready, nothing is counted", "complete_many_v1", "d_task is distinct from r_task", "r_task is null"),
    (
        "tasks stay named as running in the process",
        "complete_many_v1",
        "any (array[f.task_id]) and f.active_steps = 0",
        "any (array[f.task_id]) and false",
    ),
    (
        "tasks that go on are not named any more",
        "complete_many_v1",
        "any (array[f.task_id]) and f.active_steps = 0",
        "any (array[f.task_id])",
    ),
    ("the entries for operators are forgotten", "complete_many_v1", "if 'error' = any (f_state) then", "if false then"),
    ("the part that messages share comes twice", "complete_many_v1", "where r_task[i] is distinct from r_task[i - 1]", ""),
    ("results beyond the sixty-fourth are lost", "complete_many_v1", "cardinality(r.parents || r.further_ancestors) > 64 or", ""),
    ("large results are lost", "complete_many_v1", " or a.largest > p_max_bytes / 1024", ""),
    ("the messages together are too large", "complete_many_v1", "<= 4 * p_max_bytes as fits", "<= 8 * p_max_bytes as fits"),
    ("the keys of further messages are lost", "complete_many_v1", "if cardinality(ready) > p_bodies then", "if false then"),
];

const SUBMIT_ONE: &[Difference] = &[
    ("a paused template goes on", "submit_one_v1", "p.template in ('', w_name)", "p.template = ''"),
    ("a known id is not found", "submit_one_v1", "where q.task_id = t_task", "where false"),
    ("a known identity is not found", "submit_one_v1", "where q.identity = t_identity", "where false"),
    (
        "the task is not named as running in the process",
        "submit_one_v1",
        "insert into tasker.in_process (task_id) values (t_task)",
        "null",
    ),
    ("a task without steps is named as running", "submit_one_v1", "and w_total > 0", ""),
];

async fn all_are_found(differences: &[Difference]) {
    let mut chance = Chance::of_run("SAME_ROWS_SEED");
    let mut missed = Vec::new();
    for (difference, function, right, wrong) in differences {
        let mut found = false;
        for life in 0..MOST {
            let twins = Twins::new().await;
            twins.product.replace_in(function, right, wrong).await;
            let mut one = Life::of(twins, Chance::new(chance.number()), life);
            found = tokio::spawn(async move { one.live(CALLS).await }).await.is_err();
            if found {
                println!("found in life {} of {function}: {difference}", life + 1);
                break;
            }
        }
        if !found {
            missed.push((function, difference));
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_planted_in_general_functions_is_found() {
    all_are_found(GENERAL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_planted_in_the_success_alone_is_found() {
    all_are_found(COMPLETE_ONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_planted_in_the_batch_of_successes_is_found() {
    all_are_found(COMPLETE_MANY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_difference_planted_in_the_submit_alone_is_found() {
    all_are_found(SUBMIT_ONE).await;
}
