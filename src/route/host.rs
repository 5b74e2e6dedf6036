//! Host names to what is kept for them: exact names, then the longest `*.` suffix, then `*`.

use crate::base::hash::ConfigMap;
use crate::base::limits::HOST_NAME_MAX;
use crate::config::model::HostMatch;

/// One value for each host that the configuration names.
#[derive(Debug)]
pub struct Hosts<T> {
    exact: ConfigMap<Box<[u8]>, T>,
    /// Keys begin with the dot.
    suffix: ConfigMap<Box<[u8]>, T>,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self { exact: ConfigMap::default(), suffix: ConfigMap::default(), any: None }
    }
}

impl<T: Default> Hosts<T> {
    /// The value of a host, made if it is new.
    pub fn entry(&mut self, host: &HostMatch) -> &mut T {
        match host {
            HostMatch::Any => self.any.get_or_insert_default(),
            HostMatch::Exact(name) => self.exact.entry(name.as_bytes().into()).or_default(),
            HostMatch::Suffix(name) => self.suffix.entry(name.as_bytes().into()).or_default(),
        }
    }
}

impl<T> Hosts<T> {
    /// Changes every value.
    pub fn each(&mut self, mut change: impl FnMut(&mut T)) {
        self.exact.values_mut().for_each(&mut change);
        self.suffix.values_mut().for_each(&mut change);
        self.any.iter_mut().for_each(change);
    }

    /// Whether any host is named.
    #[must_use]
    pub fn has_names(&self) -> bool {
        !self.exact.is_empty() || !self.suffix.is_empty()
    }

    /// The values that match a host name, the most specific first. Case and a dot at the end do
    /// not count.
    pub fn find(&self, host: &[u8]) -> impl Iterator<Item = &T> {
        let named = self.has_names().then(|| self.find_named(host)).into_iter().flatten();
        named.flatten().chain(self.any.as_ref())
    }

    /// The exact name's value, then at most one for each level of the name, from the longest
    /// suffix on.
    #[inline(never)]
    fn find_named(&self, host: &[u8]) -> [Option<&T>; 9] {
        let mut found = [None; 9];
        let mut lower = [0; HOST_NAME_MAX];
        let host = host.strip_suffix(b".").unwrap_or(host);
        let Some(name) = lower.get_mut(..host.len()) else { return found };
        name.copy_from_slice(host);
        name.make_ascii_lowercase();
        let name = &*name;
        found[0] = self.exact.get(name);
        if !self.suffix.is_empty() {
            let dots = memchr::memchr_iter(b'.', name);
            let values = dots.filter_map(|dot| self.suffix.get(&name[dot..]));
            found[1..].iter_mut().zip(values).for_each(|(slot, value)| *slot = Some(value));
        }
        found
    }
}
