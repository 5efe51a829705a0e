//! Directed graphs of steps, given as lists of parents by index: topological order, cycles, and nearest ancestors.
//!
//! This module knows no names and no templates. Every function is linear in edges, unless its comment says otherwise.

use std::{cmp::Reverse, collections::BinaryHeap};

/// The most steps that the text of a cycle names. The middle of a longer cycle is left out.
const SPELLED: usize = 20;

/// A topological order that otherwise keeps the given order; or the cycles that make it impossible.
///
/// In a cycle each node depends on the next one, and the last on the first. Every group of nodes that
/// depend on each other yields at least one cycle.
pub fn order(parents: &[Vec<usize>]) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let children = children(parents);
    let mut waits_for: Vec<usize> = parents.iter().map(Vec::len).collect();
    let mut ready: BinaryHeap<_> = (0..parents.len()).filter(|&n| waits_for[n] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(parents.len());
    while let Some(Reverse(node)) = ready.pop() {
        order.push(node);
        for &child in &children[node] {
            waits_for[child] -= 1;
            if waits_for[child] == 0 {
                ready.push(Reverse(child));
            }
        }
    }
    if order.len() == parents.len() { Ok(order) } else { Err(cycles(parents)) }
}

/// The position of every node in an order.
pub fn positions(order: &[usize]) -> Vec<usize> {
    let mut positions = vec![0; order.len()];
    for (position, &node) in order.iter().enumerate() {
        positions[node] = position;
    }
    positions
}

/// The parents of the nodes in an order: positions instead of indexes, ascending.
pub fn in_order(parents: &[Vec<usize>], order: &[usize]) -> Vec<Vec<usize>> {
    let positions = positions(order);
    let sorted = |&node: &usize| {
        let mut parents: Vec<usize> = parents[node].iter().map(|&parent| positions[parent]).collect();
        parents.sort_unstable();
        parents
    };
    order.iter().map(sorted).collect()
}

/// The children of every node, ascending.
pub fn children(parents: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut children = vec![Vec::new(); parents.len()];
    for (node, parents) in parents.iter().enumerate() {
        for &parent in parents {
            children[parent].push(node);
        }
    }
    children
}

/// For every node, the nearest ancestors that are not its parents: at most `limit`, ascending.
///
/// The distance is the shortest path. A node with fewer than `limit` ancestors costs all edges above it, so the sum is
/// quadratic only for graphs that are both dense and shallow. The size of a template bounds those.
pub fn further_ancestors(parents: &[Vec<usize>], limit: usize) -> Vec<Vec<usize>> {
    let mut seen_by = vec![usize::MAX; parents.len()];
    (0..parents.len()).map(|node| nearest(parents, node, limit, &mut seen_by)).collect()
}

/// Breadth-first search from `node`. Calls share `seen_by`, so no call has to clear it.
fn nearest(parents: &[Vec<usize>], node: usize, limit: usize, seen_by: &mut [usize]) -> Vec<usize> {
    for &parent in &parents[node] {
        seen_by[parent] = node;
    }
    let mut found: Vec<usize> = Vec::new();
    let mut looked_at = 0;
    for &parent in &parents[node] {
        found.extend(unseen(parents, parent, node, limit - found.len(), seen_by));
    }
    while looked_at < found.len() && found.len() < limit {
        let ancestor = found[looked_at];
        found.extend(unseen(parents, ancestor, node, limit - found.len(), seen_by));
        looked_at += 1;
    }
    found.sort_unstable();
    found
}

/// Marks and returns the first `limit` parents of `of` that `node` has not seen.
fn unseen(parents: &[Vec<usize>], of: usize, node: usize, limit: usize, seen_by: &mut [usize]) -> Vec<usize> {
    let fresh: Vec<usize> = parents[of].iter().copied().filter(|&p| seen_by[p] != node).take(limit).collect();
    for &parent in &fresh {
        seen_by[parent] = node;
    }
    fresh
}

/// The text of a cycle: `a -> b -> c -> a`. Each node depends on the next one.
pub fn spell<'a>(cycle: &[usize], name: impl Fn(usize) -> &'a str) -> String {
    let mut names: Vec<&str> = cycle.iter().chain(cycle.first()).map(|&node| name(node)).collect();
    let left_out = format!("({} more)", names.len().saturating_sub(SPELLED));
    if names.len() > SPELLED {
        let half = SPELLED / 2;
        names.splice(half..names.len() - half, [left_out.as_str()]);
    }
    names.join(" -> ")
}

/// At least one cycle of every group of nodes that depend on each other. A depth-first search along the parents finds them:
/// an edge back into the current path closes a cycle.
fn cycles(parents: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut search = Search { marks: vec![Mark::New; parents.len()], in_cycle: vec![false; parents.len()], cycles: Vec::new() };
    for node in 0..parents.len() {
        if search.marks[node] == Mark::New {
            search.descend(parents, node);
        }
    }
    search.cycles
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    New,
    OnPath,
    Done,
}

struct Search {
    marks: Vec<Mark>,
    /// Nodes on a cycle that was found. A second cycle of only such nodes is not reported.
    in_cycle: Vec<bool>,
    cycles: Vec<Vec<usize>>,
}

impl Search {
    fn descend(&mut self, parents: &[Vec<usize>], root: usize) {
        // An explicit stack, because a chain may have 10,000 nodes.
        let mut path = vec![root];
        let mut next_parent = vec![0];
        self.marks[root] = Mark::OnPath;
        while let (Some(&node), Some(next)) = (path.last(), next_parent.last_mut()) {
            let Some(&parent) = parents[node].get(*next) else {
                self.marks[node] = Mark::Done;
                path.pop();
                next_parent.pop();
                continue;
            };
            *next += 1;
            match self.marks[parent] {
                Mark::New => {
                    self.marks[parent] = Mark::OnPath;
                    path.push(parent);
                    next_parent.push(0);
                }
                Mark::OnPath if !(self.in_cycle[parent] && self.in_cycle[node]) => self.close(&path, parent),
                Mark::OnPath | Mark::Done => {}
            }
        }
    }

    fn close(&mut self, path: &[usize], first: usize) {
        let start = path.iter().rposition(|&n| n == first).expect("a node marked OnPath is on the path");
        let cycle = &path[start..];
        if !cycle.iter().any(|&n| self.in_cycle[n]) {
            self.cycles.push(cycle.to_vec());
        }
        for &node in cycle {
            self.in_cycle[node] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_given_order_is_kept_where_dependencies_allow_it() {
        assert_eq!(order(&[vec![], vec![], vec![]]), Ok(vec![0, 1, 2]));
        assert_eq!(order(&[vec![3], vec![], vec![1], vec![]]), Ok(vec![1, 2, 3, 0]));
    }

    #[test]
    fn a_cycle_is_spelled_out_in_the_direction_of_dependence() {
        let cycles = order(&[vec![1], vec![2], vec![0], vec![0]]).unwrap_err();
        assert_eq!(cycles, [vec![0, 1, 2]]);
        assert_eq!(spell(&cycles[0], |n| ["a", "b", "c", "d"][n]), "a -> b -> c -> a");
    }

    #[test]
    fn every_group_of_nodes_that_depend_on_each_other_is_reported() {
        let cycles = order(&[vec![0], vec![2, 0], vec![1], vec![], vec![5], vec![4, 3]]).unwrap_err();
        assert_eq!(cycles, [vec![0], vec![1, 2], vec![4, 5]]);
    }

    #[test]
    fn a_long_cycle_is_abridged() {
        let parents: Vec<_> = (0..10_000).map(|n| vec![(n + 1) % 10_000]).collect();
        let cycles = order(&parents).unwrap_err();
        assert_eq!(cycles[0].len(), 10_000);
        assert_eq!(spell(&cycles[0], |_| "x").matches("x").count(), SPELLED);
    }

    #[test]
    fn further_ancestors_are_the_nearest_by_the_shortest_way() {
        // 0 <- 1 <- 2 <- 3 <- 4, and 4 also depends on 1 directly.
        let parents = [vec![], vec![0], vec![1], vec![2], vec![1, 3]];
        assert_eq!(further_ancestors(&parents, 32), [vec![], vec![], vec![0], vec![0, 1], vec![0, 2]]);
        assert_eq!(further_ancestors(&parents, 1), [vec![], vec![], vec![0], vec![1], vec![0]]);
    }

    #[test]
    fn wide_and_long_graphs_stay_cheap() {
        let fan = 9_998;
        let mut wide = vec![vec![]];
        wide.extend((0..fan).map(|_| vec![0]));
        wide.push((1..=fan).collect());
        assert_eq!(order(&wide).map(|o| o.len()), Ok(10_000));
        assert_eq!(further_ancestors(&wide, 32)[fan + 1], [0]);
        let chain: Vec<Vec<usize>> = (0..10_000_usize).map(|n| n.checked_sub(1).into_iter().collect()).collect();
        assert_eq!(further_ancestors(&chain, 32)[9_999], (9_966..9_998).collect::<Vec<_>>());
    }

    /// Graphs whose edges go to lower nodes, with the nodes renamed at random.
    fn acyclic() -> impl Strategy<Value = Vec<Vec<usize>>> {
        (1..40_usize)
            .prop_flat_map(|n| {
                let parents = (0..n).map(|i| prop::collection::btree_set(0..i.max(1), 0..=i.min(4))).collect::<Vec<_>>();
                (parents, Just((0..n).collect::<Vec<_>>()).prop_shuffle())
            })
            .prop_map(|(lower, names)| {
                let mut parents = vec![Vec::new(); names.len()];
                for (node, lower) in lower.iter().enumerate() {
                    parents[names[node]] = lower.iter().filter(|&&p| p != node).map(|&p| names[p]).collect();
                }
                parents
            })
    }

    proptest! {
        #[test]
        fn parents_come_first(parents in acyclic()) {
            let order = order(&parents).unwrap();
            let mut done = BTreeSet::new();
            for node in order {
                prop_assert!(parents[node].iter().all(|p| done.contains(p)));
                prop_assert!(done.insert(node));
            }
            prop_assert_eq!(done.len(), parents.len());
        }

        #[test]
        fn further_ancestors_agree_with_a_plain_search(parents in acyclic(), limit in 0..6_usize) {
            let all = further_ancestors(&parents, usize::MAX);
            let few = further_ancestors(&parents, limit);
            for node in 0..parents.len() {
                let levels = levels_above(&parents, node);
                let expected: BTreeSet<_> = levels.iter().skip(1).flatten().copied().collect();
                prop_assert_eq!(&all[node], &expected.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(few[node].len(), limit.min(expected.len()));
                let distance = |n| levels.iter().position(|level| level.contains(n));
                let farthest = few[node].iter().map(distance).max();
                let left_out = expected.iter().filter(|n| !few[node].contains(n)).map(distance).min();
                prop_assert!(left_out.is_none() || farthest <= left_out);
            }
        }

        #[test]
        fn every_reported_cycle_is_a_cycle(parents in prop::collection::vec(prop::collection::vec(0..12_usize, 0..4), 12)) {
            if let Err(cycles) = order(&parents) {
                prop_assert!(!cycles.is_empty());
                for cycle in cycles {
                    for (i, &node) in cycle.iter().enumerate() {
                        prop_assert!(parents[node].contains(&cycle[(i + 1) % cycle.len()]));
                    }
                }
            }
        }
    }

    fn levels_above(parents: &[Vec<usize>], node: usize) -> Vec<BTreeSet<usize>> {
        let mut seen = BTreeSet::new();
        let mut levels = Vec::new();
        let mut level: BTreeSet<usize> = parents[node].iter().copied().collect();
        while !level.is_empty() {
            seen.extend(level.iter().copied());
            let above = level.iter().flat_map(|&n| &parents[n]).copied().filter(|n| !seen.contains(n)).collect();
            levels.push(std::mem::replace(&mut level, above));
        }
        levels
    }
}
