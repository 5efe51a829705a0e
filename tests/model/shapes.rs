//! The shapes of small workflows: every directed acyclic graph of a number of steps, up to renaming.

use crate::model::STEPS;

/// A graph of steps in topological order; sets of steps are bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub steps: usize,
    pub parents: [u8; STEPS],
    pub children: [u8; STEPS],
}

/// The steps of a set, ascending.
pub fn bits(set: u8) -> impl Iterator<Item = usize> {
    (0..8).filter(move |n| set >> n & 1 == 1)
}

/// All shapes of so many steps.
pub fn shapes(steps: usize) -> Vec<Shape> {
    let pairs: Vec<(usize, usize)> = (0..steps).flat_map(|child| (0..child).map(move |parent| (parent, child))).collect();
    let mut known: Vec<Shape> = Vec::new();
    for edges in 0..1_u32 << pairs.len() {
        let shape = Shape::of(steps, pairs.iter().enumerate().filter(|(i, _)| edges >> i & 1 == 1).map(|(_, pair)| *pair));
        let again = permutations(steps).iter().any(|p| known.contains(&shape.renamed(p)));
        if !again {
            known.push(shape);
        }
    }
    known
}

impl Shape {
    fn of(steps: usize, edges: impl Iterator<Item = (usize, usize)>) -> Self {
        let mut shape = Self { steps, parents: [0; STEPS], children: [0; STEPS] };
        for (parent, child) in edges {
            shape.parents[child] |= 1 << parent;
            shape.children[parent] |= 1 << child;
        }
        shape
    }

    fn renamed(&self, names: &[usize]) -> Self {
        let edges = (0..self.steps).flat_map(|child| bits(self.parents[child]).map(move |parent| (parent, child)));
        Self::of(self.steps, edges.map(|(parent, child)| (names[parent], names[child])))
    }

    /// The permutations of steps that leave the shape unchanged, with the identity.
    pub fn symmetries(&self) -> Vec<Vec<usize>> {
        permutations(self.steps).into_iter().filter(|p| self.renamed(p) == *self).collect()
    }

    /// All ancestors of a step.
    pub fn ancestors(&self, step: usize) -> u8 {
        bits(self.parents[step]).fold(self.parents[step], |all, parent| all | self.ancestors(parent))
    }
}

impl std::fmt::Display for Shape {
    /// Each step with its parents: `0: 1: 2:0,1`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |step: usize| bits(self.parents[step]).map(|p| p.to_string()).collect::<Vec<_>>().join(",");
        let words: Vec<String> = (0..self.steps).map(|step| format!("{step}:{}", of(step))).collect();
        f.pad(&words.join(" "))
    }
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(n - 1);
    shorter
        .iter()
        .flat_map(|p| {
            (0..n).map(|place| {
                let mut longer = p.clone();
                longer.insert(place, n - 1);
                longer
            })
        })
        .collect()
}

#[test]
fn there_are_as_many_shapes_as_unlabelled_acyclic_graphs() {
    assert_eq!([1, 2, 3, 4].map(|n| shapes(n).len()), [1, 2, 6, 31]);
}
