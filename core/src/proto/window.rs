//! A table whose keys only rise: requests, deliveries, the numbers of a session.
//!
//! What is put in last is taken out soon, in about the same order; see [`Window`].

use std::collections::VecDeque;

/// The row may have this many empty places beside as many as there are entries.
const SPARE: usize = 32;
/// An empty table gives back memory for more than this many places.
const KEPT_CAPACITY: usize = 4096;

/// A table whose keys only rise, for entries that are taken out in about the order in which they were put in: a row, where a
/// key is found by its distance from the first one. Nothing is allocated or hashed for one entry.
#[derive(Clone, Debug)]
pub struct Window<T> {
    places: VecDeque<(u64, Option<T>)>,
    len: usize,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Window { places: VecDeque::new(), len: 0 }
    }
}

impl<T> Window<T> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts an entry behind all others.
    ///
    /// # Errors
    /// The entry, where the key is not above all keys so far: it is not taken.
    pub fn push(&mut self, key: u64, entry: T) -> Result<(), T> {
        if self.places.back().is_some_and(|(last, _)| *last >= key) {
            return Err(entry);
        }
        self.places.push_back((key, Some(entry)));
        self.len += 1;
        Ok(())
    }

    /// The entry of this key.
    pub fn get(&self, key: u64) -> Option<&T> {
        self.places.get(self.find(key)?)?.1.as_ref()
    }

    /// The entry of this key, to be changed.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        let at = self.find(key)?;
        self.places.get_mut(at)?.1.as_mut()
    }

    /// Takes out the entry of this key.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        // Nearly always the first: it leaves with its place, and nothing is written in its stead.
        let entry = if self.places.front()?.0 == key {
            self.places.pop_front()?.1
        } else {
            let at = self.find(key)?;
            self.places.get_mut(at)?.1.take()
        };
        if entry.is_some() {
            self.len -= 1;
            self.tidy();
        }
        entry
    }

    /// The entry of the lowest key.
    pub fn first(&self) -> Option<(u64, &T)> {
        self.iter().next()
    }

    /// The entry of the lowest key that is not below this one.
    pub fn next_from(&self, key: u64) -> Option<(u64, &T)> {
        let at = self.find(key).unwrap_or_else(|| self.places.partition_point(|(other, _)| *other < key));
        self.places.range(at..).find_map(|(key, entry)| Some((*key, entry.as_ref()?)))
    }

    /// The entry of the highest key.
    pub fn last(&self) -> Option<(u64, &T)> {
        self.places.iter().rev().find_map(|(key, entry)| Some((*key, entry.as_ref()?)))
    }

    /// The entries by rising keys.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.places.iter().filter_map(|(key, entry)| Some((*key, entry.as_ref()?)))
    }

    /// Keeps the entries that `keep` is true for.
    pub fn retain(&mut self, mut keep: impl FnMut(u64, &mut T) -> bool) {
        self.places.retain_mut(|(key, entry)| entry.as_mut().is_some_and(|entry| keep(*key, entry)));
        self.len = self.places.len();
    }

    /// Takes out all entries.
    pub fn clear(&mut self) {
        *self = Window::default();
    }

    /// Where the key is: as far from the first as its number, or, where there are gaps, before that.
    fn find(&self, key: u64) -> Option<usize> {
        let first = self.places.front()?.0;
        let distance = usize::try_from(key.checked_sub(first)?).ok()?;
        if self.places.get(distance).is_some_and(|(found, _)| *found == key) {
            return Some(distance);
        }
        self.places.binary_search_by_key(&key, |(key, _)| *key).ok()
    }

    fn tidy(&mut self) {
        while self.places.front().is_some_and(|(_, entry)| entry.is_none()) {
            // There is nothing to drop in an empty place, and so nothing to move out of it.
            std::mem::forget(self.places.pop_front());
        }
        if self.places.len() > 2 * self.len + SPARE {
            self.close_gaps();
        }
        if self.places.is_empty() && self.places.capacity() > KEPT_CAPACITY {
            self.places = VecDeque::new();
        }
    }

    #[cold]
    fn close_gaps(&mut self) {
        self.places.retain(|(_, entry)| entry.is_some());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_behaves_as_an_ordered_map_does() {
        for seed in 1..200u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut next = |below: u64| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % below
            };
            let (mut window, mut model, mut last) = (Window::default(), BTreeMap::new(), 0);
            for step in 0..300 {
                match next(4) {
                    0 | 1 => {
                        last += 1 + next(3) * next(2);
                        window.push(last, step).unwrap();
                        model.insert(last, step);
                    }
                    2 => {
                        let key = next(last + 2);
                        assert_eq!(window.remove(key), model.remove(&key), "seed {seed}");
                    }
                    _ => {
                        let key = next(last + 2);
                        assert_eq!(window.get(key), model.get(&key), "seed {seed}");
                        assert_eq!(window.get_mut(key).copied(), model.get(&key).copied(), "seed {seed}");
                    }
                }
                assert_eq!(window.len(), model.len(), "seed {seed}");
                assert_eq!(window.first(), model.iter().next().map(|(key, entry)| (*key, entry)), "seed {seed}");
                let key = next(last + 2);
                let from = model.range(key..).next().map(|(key, entry)| (*key, entry));
                assert_eq!(window.next_from(key), from, "seed {seed}");
                assert_eq!(window.last(), model.iter().next_back().map(|(key, entry)| (*key, entry)), "seed {seed}");
                assert!(window.places.len() <= 2 * model.len() + SPARE + 2, "seed {seed}: gaps are closed");
            }
            assert!(window.iter().eq(model.iter().map(|(key, entry)| (*key, entry))), "seed {seed}");
        }
    }

    #[test]
    fn a_key_that_does_not_rise_is_not_taken() {
        let mut window = Window::default();
        window.push(5, "five").unwrap();
        assert_eq!(window.push(5, "again"), Err("again"));
        assert_eq!(window.push(4, "four"), Err("four"));
        assert_eq!((window.len(), window.get(5)), (1, Some(&"five")));
    }
}
