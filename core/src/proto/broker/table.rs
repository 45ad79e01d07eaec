//! Things that have a name and, while they are there, a short key: a name is looked up once for a message.

use std::borrow::Borrow;
use std::cell::Cell;
use std::hash::{BuildHasher, Hash};
use std::ops::Deref;

use foldhash::fast::FixedState;
use slab::Slab;

use super::Map;

#[derive(Debug)]
pub(super) struct Table<N, T> {
    keys: Map<N, usize>,
    entries: Slab<(N, T)>,
    /// The key that was found last: what is named in one message of a batch is mostly named in the next one too.
    last: Cell<usize>,
}

impl<N: Deref<Target = str>, T> Table<N, T> {
    /// A name as text; empty where nothing has the key.
    pub(super) fn text(&self, key: usize) -> &str {
        self.entries.get(key).map_or("", |(name, _)| name)
    }
}

impl<N: Clone + Eq + Hash, T> Table<N, T> {
    pub(super) fn new(hash: FixedState) -> Self {
        Table { keys: Map::with_hasher(hash), entries: Slab::new(), last: Cell::new(0) }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn key<Q: Hash + Eq + ?Sized>(&self, name: &Q) -> Option<usize>
    where
        N: Borrow<Q>,
        FixedState: BuildHasher,
    {
        let last = self.last.get();
        if self.entries.get(last).is_some_and(|(present, _)| present.borrow() == name) {
            return Some(last);
        }
        let key = self.keys.get(name).copied()?;
        self.last.set(key);
        Some(key)
    }

    pub(super) fn get(&self, key: usize) -> Option<&T> {
        self.entries.get(key).map(|(_, entry)| entry)
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut T> {
        self.entries.get_mut(key).map(|(_, entry)| entry)
    }

    pub(super) fn name(&self, key: usize) -> Option<&N> {
        self.entries.get(key).map(|(name, _)| name)
    }

    /// An entry with its name.
    pub(super) fn named_mut(&mut self, key: usize) -> Option<(&N, &mut T)> {
        self.entries.get_mut(key).map(|(name, entry)| (&*name, entry))
    }

    /// Adds an entry; one of the same name must not be there.
    pub(super) fn insert(&mut self, name: N, entry: T) -> usize {
        let key = self.entries.insert((name.clone(), entry));
        self.keys.insert(name, key);
        key
    }

    pub(super) fn remove(&mut self, key: usize) -> Option<(N, T)> {
        let (name, entry) = self.entries.try_remove(key)?;
        self.keys.remove(&name);
        Some((name, entry))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&N, &T)> {
        self.entries.iter().map(|(_, (name, entry))| (name, entry))
    }

    pub(super) fn clear(&mut self) {
        self.keys.clear();
        self.entries.clear();
    }
}
