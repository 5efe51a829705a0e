//! The rows of a task after what was decided.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{prelude::*, test_runner::RngSeed};
use tasker_domain::{
    Created, Decided, GraphStep, Growth, MadeWorkers,
    template::{StepKind, Workflow, parse},
};
use tasker_wire::{StepNo, ids::step_no, limits};

use crate::{
    rules,
    samples::{approval, dataset, decided, diamond, name, names},
    shapes::{Explored, Shape, each_shape, shapes, shapes_of, workflow},
};

/// Each row as `name: parents | children | further ancestors`.
fn spelled(workflow: &Workflow, decided: &Decided) -> Vec<String> {
    let spell = |row: GraphStep| {
        let [parents, children, further] =
            [&row.parents, &row.children, &row.further_ancestors].map(|list| names(workflow, list));
        format!("{}: {parents} | {children} | {further}", name(workflow, row.no))
    };
    workflow.graph(decided).into_iter().map(spell).collect()
}

#[test]
fn an_approval_has_two_steps_until_it_is_routed() {
    let workflow = approval();
    assert_eq!(spelled(&workflow, &Decided::new()), ["check:  | route | ", "route: check | at_once manager finance close | "]);
    assert_eq!(
        spelled(&workflow, &decided(&workflow, &[("route", Err(&["manager"]))])),
        [
            "check:  | route | ",
            "route: check | at_once manager finance close | ",
            "manager: route | close | check",
            "close: route manager |  | check",
        ]
    );
    let both = spelled(&workflow, &decided(&workflow, &[("route", Err(&["manager", "finance"]))]));
    assert_eq!((both.len(), both[4].as_str()), (5, "close: route manager finance |  | check"));
    assert_eq!(spelled(&workflow, &decided(&workflow, &[("route", Err(&[]))])).len(), 2, "nothing is left behind the decision");
}

#[test]
fn a_data_set_has_one_step_until_it_is_divided() {
    let workflow = dataset();
    assert_eq!(spelled(&workflow, &Decided::new()), ["analyze:  | sum | "]);
    assert_eq!(
        spelled(&workflow, &decided(&workflow, &[("analyze", Ok(2))])),
        ["analyze:  | sum | ", "work_1: analyze | sum | ", "work_2: analyze | sum | ", "sum: analyze work_1 work_2 |  | "]
    );
    assert_eq!(spelled(&workflow, &decided(&workflow, &[("analyze", Ok(0))])).len(), 1, "without workers nothing follows");
}

#[test]
fn a_worker_and_its_convergence_see_what_is_beyond_the_decision() {
    let workflow = diamond();
    assert_eq!(workflow.graph(&Decided::new()).len(), 4);
    let rows = spelled(&workflow, &decided(&workflow, &[("route", Err(&["odd_analyze"])), ("odd_analyze", Ok(2))]));
    assert_eq!(
        rows[4..],
        [
            "odd_analyze: route | odd_sum | start evens odds",
            "odd_work_1: odd_analyze | odd_sum | start evens odds route",
            "odd_work_2: odd_analyze | odd_sum | start evens odds route",
            "odd_sum: route odd_analyze odd_work_1 odd_work_2 |  | start evens odds",
        ]
    );
}

#[test]
fn a_convergence_that_exists_waits_for_every_decision_that_may_still_give_it_a_parent() {
    let workflow = workflow(
        "{name: a, handler: {callable: x}},
         {name: first, type: decision, dependencies: [a], handler: {callable: x}},
         {name: second, type: decision, dependencies: [first], handler: {callable: x}},
         {name: b, dependencies: [second], handler: {callable: x}},
         {name: join, type: deferred_convergence, dependencies: [a, b], handler: {callable: x}},
         {name: last, dependencies: [join], handler: {callable: x}}",
    );
    let parents_of_join = |made| {
        let rows = workflow.graph(&decided(&workflow, made));
        names(&workflow, &rows.iter().find(|row| name(&workflow, row.no) == "join").unwrap().parents)
    };
    assert_eq!(parents_of_join(&[]), "a first");
    assert_eq!(parents_of_join(&[("first", Err(&[]))]), "a first");
    assert_eq!(parents_of_join(&[("first", Err(&["second"]))]), "a first second");
    assert_eq!(parents_of_join(&[("first", Err(&["second"])), ("second", Err(&["b"]))]), "a first second b");
    let last = spelled(&workflow, &Decided::new()).pop().unwrap();
    assert_eq!(last, "last: join |  | a first second b", "what comes late is named before it exists");
}

#[test]
fn a_growth_names_the_rows_that_get_further_parents() {
    let workflow = workflow(
        "{name: a, handler: {callable: x}}, {name: divide, type: batchable, handler: {callable: x}},
         {name: work, type: batch_worker, dependencies: [divide], handler: {callable: x}},
         {name: join, type: deferred_convergence, dependencies: [a, work], handler: {callable: x}}",
    );
    let growth = workflow.growth(&Decided::new(), 1, &Created::Workers(3));
    let workers = growth.workers.unwrap();
    assert_eq!((workers.pattern, workers.count, names(&workflow, &workers.children)), (2, 3, "join".to_owned()));
    assert_eq!(growth.made, []);
    let [(join, parents)] = &growth.edges[..] else { panic!() };
    assert_eq!((name(&workflow, *join), names(&workflow, parents)), ("join".to_owned(), "work_1 work_2 work_3".to_owned()));
    assert_eq!(workflow.growth(&Decided::new(), 1, &Created::Workers(0)), Growth::default());
}

#[test]
fn a_step_after_a_convergence_sees_all_workers_of_a_batch_or_none() {
    let workflow = workflow(
        "{name: a, handler: {callable: x}}, {name: divide, type: batchable, dependencies: [a], handler: {callable: x}},
         {name: work, type: batch_worker, dependencies: [divide], handler: {callable: x}},
         {name: sum, type: deferred_convergence, dependencies: [work], handler: {callable: x}},
         {name: report, dependencies: [sum], handler: {callable: x}}",
    );
    let further = |workers| workflow.graph(&decided(&workflow, &[("divide", Ok(workers))])).pop().unwrap().further_ancestors;
    assert_eq!(names(&workflow, &further(2)), "a divide work_1 work_2");
    let most = limits::FURTHER_ANCESTORS as u32;
    assert_eq!(further(most - 1).len(), limits::FURTHER_ANCESTORS);
    assert_eq!(names(&workflow, &further(most)), "a divide");
}

#[test]
fn what_a_decider_made_is_stored_as_numbers() {
    let workflow = diamond();
    let made =
        decided(&workflow, &[("route", Err(&["even_analyze", "odd_analyze"])), ("even_analyze", Ok(3)), ("odd_analyze", Ok(0))]);
    for (&decider, created) in &made {
        let numbers = created.numbers(&workflow, decider);
        assert_eq!(Created::from_numbers(&workflow, decider, &numbers).as_ref(), Some(created));
    }
    let position = |name| workflow.steps.iter().position(|step| step.name == name).unwrap();
    let [route, even, odd] = ["route", "even_analyze", "odd_analyze"].map(position);
    assert_eq!(made[&route].numbers(&workflow, route), [step_no(even), step_no(odd)]);
    assert_eq!(made[&even].numbers(&workflow, even), [step_no(position("even_work")), 3]);
    for (decider, numbers) in [
        (route, vec![step_no(odd), step_no(even)]),
        (route, vec![step_no(even), step_no(even)]),
        (route, vec![step_no(position("even_sum"))]),
        (route, vec![step_no(position("even_work"))]),
        (route, vec![step_no(even) + 1]),
        (route, vec![0]),
        (even, vec![step_no(position("odd_work")), 3]),
        (even, vec![step_no(position("even_work")), -1]),
        (even, vec![step_no(position("even_work")), 16_384]),
        (even, vec![]),
        (position("start"), vec![]),
        (99, vec![]),
    ] {
        assert_eq!(Created::from_numbers(&workflow, decider, &numbers), None, "{decider} {numbers:?}");
    }
}

fn same_as_the_rules(of: &Explored) -> Result<(), TestCaseError> {
    let Explored { shape, workflow, states } = of;
    for state in states {
        let rows = workflow.graph(&state.decided);
        let expected = rules::rows(shape, &state.decided);
        prop_assert_eq!(rows.iter().map(|row| row.no).collect::<Vec<_>>(), expected.keys().copied().collect::<Vec<_>>());
        for row in &rows {
            let rule = &expected[&row.no];
            prop_assert_eq!(&row.parents, &rule.parents.iter().copied().collect::<Vec<_>>(), "parents of {}", row.no);
            prop_assert_eq!(&row.children, &rule.children.iter().copied().collect::<Vec<_>>(), "children of {}", row.no);
            prop_assert!(row.further_ancestors.is_sorted_by(|a, b| a < b));
        }
        both_ends_know_their_edge(&rows)?;
    }
    Ok(())
}

/// In every state, each decider that may end adds to the rows what the rows after it have more.
fn growth_is_the_difference(of: &Explored) -> Result<(), TestCaseError> {
    let Explored { workflow, states, .. } = of;
    for state in states {
        let before = workflow.graph(&state.decided);
        for (decider, created, to) in &state.next {
            let growth = workflow.growth(&state.decided, *decider, created);
            let after = workflow.graph(&states[*to].decided);
            prop_assert_eq!(grown(before.clone(), growth)?, after, "{} {:?}", decider, created);
        }
    }
    Ok(())
}

/// The rows with a growth applied.
pub fn grown(rows: Vec<GraphStep>, growth: Growth) -> Result<Vec<GraphStep>, TestCaseError> {
    let mut rows: BTreeMap<StepNo, GraphStep> = rows.into_iter().map(|row| (row.no, row)).collect();
    prop_assert!(growth.edges.is_sorted_by(|a, b| a.0 < b.0) && growth.made.is_sorted_by(|a, b| a.no < b.no));
    for (no, further) in growth.edges {
        prop_assert!(!further.is_empty() && further.is_sorted_by(|a, b| a < b));
        let parents = &mut rows.get_mut(&no).unwrap().parents;
        parents.extend(further);
        parents.sort_unstable();
    }
    let workers = growth.workers.into_iter().flat_map(|workers| {
        let MadeWorkers { pattern, count, parents, children, further_ancestors } = workers;
        let worker = GraphStep { no: step_no(pattern), parents, children, further_ancestors };
        (1..=count as StepNo).map(move |no| GraphStep { no: worker.no + no, ..worker.clone() })
    });
    for row in growth.made.into_iter().chain(workers) {
        prop_assert!(rows.insert(row.no, row).is_none(), "a row is made once");
    }
    Ok(rows.into_values().collect())
}

/// A child lists its parent wherever both exist, and the other way round but for workers, which are nobody's children.
fn both_ends_know_their_edge(rows: &[GraphStep]) -> Result<(), TestCaseError> {
    let existing: BTreeSet<StepNo> = rows.iter().map(|row| row.no).collect();
    let edges = |from: fn(&GraphStep) -> &[StepNo]| -> BTreeSet<(StepNo, StepNo)> {
        rows.iter().flat_map(|row| from(row).iter().map(|&to| (to, row.no))).collect()
    };
    let by_parents = edges(|row| &row.parents);
    let by_children: BTreeSet<_> = edges(|row| &row.children).into_iter().map(|(child, parent)| (parent, child)).collect();
    let is_worker = |no: StepNo| no % step_no(0) > 0;
    prop_assert_eq!(
        by_parents.iter().copied().filter(|&(_, child)| !is_worker(child)).collect::<BTreeSet<_>>(),
        by_children.into_iter().filter(|(_, child)| existing.contains(child)).collect::<BTreeSet<_>>()
    );
    prop_assert!(by_parents.iter().all(|(parent, child)| parent < child && existing.contains(parent)));
    Ok(())
}

/// Rows only come: a decider that ends changes no row but the parents of convergences, to which some are added.
fn nothing_is_taken_back(of: &Explored) -> Result<(), TestCaseError> {
    let Explored { workflow, states, .. } = of;
    let graphs: Vec<Vec<GraphStep>> = states.iter().map(|state| workflow.graph(&state.decided)).collect();
    for (state, before) in states.iter().zip(&graphs) {
        for (decider, created, to) in &state.next {
            for row in before {
                let after = graphs[*to].iter().find(|after| after.no == row.no);
                let Some(after) = after else { panic!("{} is gone after {decider} {created:?}", row.no) };
                prop_assert!(row.parents.iter().all(|parent| after.parents.contains(parent)));
                prop_assert_eq!(&row.further_ancestors, &after.further_ancestors, "{} after {} {:?}", row.no, decider, created);
            }
        }
    }
    Ok(())
}

/// The ancestors are those by rows, unless some row may get further parents: then what may come is named too.
fn ancestors_are_those_by_rows(of: &Explored) -> Result<(), TestCaseError> {
    let Explored { shape, workflow, states } = of;
    let rows: Vec<_> = states.iter().map(|state| rules::rows(shape, &state.decided)).collect();
    let ancestors = |state: usize, no| rules::further_ancestors(&rows[state], no);
    let gets_parents = |at: usize, to: usize| rows[at].iter().any(|(no, row)| row.parents != rows[to][no].parents);
    let may_change = states.iter().enumerate().any(|(at, state)| state.next.iter().any(|&(_, _, to)| gets_parents(at, to)));
    // Beside a decision a step may count as one that can come late although it cannot, and then it leads to others.
    let has_decision = shape.0.iter().any(|(kind, _)| *kind == StepKind::Decision);
    for (at, state) in states.iter().enumerate() {
        for row in workflow.graph(&state.decided) {
            let listed: BTreeSet<StepNo> = row.further_ancestors.iter().copied().collect();
            let expected = ancestors(at, row.no);
            // What might have come late is listed although it does not exist, and the workers of a batch that might are left out.
            let listed: BTreeSet<StepNo> = listed.into_iter().filter(|no| rows[at].contains_key(no)).collect();
            let steps =
                |numbers: &BTreeSet<StepNo>| numbers.iter().copied().filter(|no| no % step_no(0) == 0).collect::<Vec<_>>();
            if !may_change && !has_decision {
                prop_assert_eq!(steps(&listed), steps(&expected), "{} of {:?}", row.no, state.decided);
                prop_assert!(listed.is_subset(&expected), "{} of {:?}", row.no, state.decided);
            }
            prop_assert!(expected.iter().all(|no| listed.contains(no) || no % step_no(0) > 0), "{}", row.no);
            prop_assert!(listed.iter().all(|no| !row.parents.contains(no) && *no < row.no));
        }
    }
    Ok(())
}

/// All that is said of a shape in this file.
fn follows_the_rules(shape: &Shape) {
    let of = shape.explored();
    for check in [same_as_the_rules, nothing_is_taken_back, ancestors_are_those_by_rows, growth_is_the_difference] {
        check(&of).unwrap_or_else(|fault| panic!("{shape:?}: {fault}"));
    }
}

/// Exhaustive. What is said of growth makes the rows the same for every order in which the deciders end.
#[test]
fn every_workflow_of_at_most_four_steps_follows_the_rules() {
    let mut shapes = 0;
    (1..=4).for_each(|steps| {
        each_shape(steps, false, &mut |shape| {
            follows_the_rules(shape);
            shapes += 1;
        });
    });
    assert_eq!(shapes, 2 + 11 + 130 + 3_137);
}

/// One in 7 of all, in the order in which they are listed. All of them take minutes.
#[test]
fn a_sample_of_the_workflows_of_five_steps_follows_the_rules() {
    let mut shapes = 0;
    each_shape(5, true, &mut |shape| {
        if shapes % 7 == 0 {
            follows_the_rules(shape);
        }
        shapes += 1;
    });
    assert_eq!(shapes, 57_914);
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(6), failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    /// Random, and the same in every run.
    #[test]
    fn two_thousand_workflows_of_six_steps_follow_the_rules(shape in shapes_of(6)) {
        follows_the_rules(&shape);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_shape_can_be_registered(shape in shapes(7)) {
        prop_assert_eq!(parse(&shape.file()).err(), None);
    }

    #[test]
    fn the_rows_are_those_of_the_rules(shape in shapes(7)) {
        same_as_the_rules(&shape.explored())?;
    }

    #[test]
    fn a_row_keeps_its_children_and_ancestors_whatever_is_decided_later(shape in shapes(7)) {
        nothing_is_taken_back(&shape.explored())?;
    }

    #[test]
    fn growth_is_what_the_rows_after_a_decider_have_more(shape in shapes(7)) {
        growth_is_the_difference(&shape.explored())?;
    }

    #[test]
    fn ancestors_beyond_the_parents_are_found_through_rows(shape in shapes(7)) {
        ancestors_are_those_by_rows(&shape.explored())?;
    }

    #[test]
    fn without_deciders_the_rows_are_the_template(masks in prop::collection::vec(any::<u64>(), 1..60)) {
        let steps = masks.iter().enumerate().map(|(i, mask)| {
            (StepKind::Standard, (i.saturating_sub(64)..i).filter(|on| mask.rotate_left(i as u32) >> (on % 64) & 7 == 7).collect())
        });
        let workflow = Shape(steps.collect()).workflow();
        let numbers = |positions: &[usize]| positions.iter().copied().map(step_no).collect::<Vec<_>>();
        for (position, (row, step)) in workflow.graph(&Decided::new()).iter().zip(&workflow.steps).enumerate() {
            let expected = [&step.parents, &step.children, &step.further_ancestors].map(|list| numbers(list));
            prop_assert_eq!(row.no, step_no(position));
            prop_assert_eq!([&row.parents, &row.children, &row.further_ancestors], expected.each_ref());
            prop_assert!(step.guards.is_empty());
        }
        prop_assert_eq!(workflow.graph(&Decided::new()).len(), workflow.steps.len());
    }
}
