//! Which keys a configuration may have: the reader takes down what it asks for, where that is wanted.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

/// What a key may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum KeyKind {
    Text,
    Words(Vec<String>),
    Boolean,
    /// From, to.
    Number(u64, u64),
    /// From 0 to 1.
    Share,
    Texts,
    Pairs,
    Table,
    Tables,
}

/// Every key that was asked for, by its full name.
#[derive(Debug, Default)]
pub(super) struct Shape(RefCell<Keys>);

/// Keys by their full names.
pub(super) type Keys = BTreeMap<String, BTreeSet<KeyKind>>;

impl Shape {
    pub(super) fn note(&self, key: String, kind: KeyKind) {
        self.0.borrow_mut().entry(key).or_default().insert(kind);
    }

    pub(super) fn into_keys(self) -> Keys {
        self.0.into_inner()
    }
}
