//! Where the addresses of names stand. Each address of a name is an endpoint of its own (exam R36), so
//! that requests are spread over addresses, and each is judged by itself; but endpoints are known by their
//! index, which must stay the same while a plan lasts. So a name has as many places among its cluster's
//! endpoints as it may have addresses (`model::Cluster::with_places`); an address that DNS tells takes a free
//! one, keeps it for as long as it is told, and leaves it empty.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use super::slots;
use crate::base::hash::stable;
use crate::base::id::EndpointId;
use crate::config::model::{Address, Balance, Cluster, Endpoint};

/// The addresses at a cluster's places, for all shards.
#[derive(Clone, Debug)]
pub struct Places {
    at: Arc<[Place]>,
    /// For those algorithms that have one.
    pub(super) table: Option<Arc<slots::SlotTable>>,
    /// Counts changes.
    changes: u32,
}

/// One endpoint's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// What its name resolves to; `None` where there is no name, or at an empty place.
    address: Option<SocketAddr>,
    /// There is something to connect to.
    is_taken: bool,
    /// What hashes and sticky cookies know it by.
    name: u64,
    /// What they would know it by if its name had one address.
    alone: u64,
    /// And if it had several.
    itself: u64,
    /// Whether its name has other addresses too.
    has_others: bool,
    /// The change that emptied it; zero if it never held an address.
    left: u32,
}

impl Places {
    /// Where no name is resolved yet, for a cluster that is told of its places later.
    #[must_use]
    pub fn unresolved(cluster: &Cluster) -> Self {
        Self::standing(cluster, &vec![(None, 0); cluster.endpoints.len()], 0)
    }

    /// Where no name is resolved yet.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        Self::unresolved(cluster).with_table(cluster)
    }

    fn standing(cluster: &Cluster, at: &[(Option<SocketAddr>, u32)], changes: u32) -> Self {
        let mut counts: HashMap<&Address, usize> = HashMap::new();
        for (one, _) in
            cluster.endpoints.iter().zip(at).filter(|(_, (address, _))| address.is_some())
        {
            *counts.entry(&one.address).or_default() += 1;
        }
        let place = |(one, (address, left)): (&Endpoint, &(Option<SocketAddr>, u32))| {
            let has_others = counts.get(&one.address).is_some_and(|count| *count > 1);
            let alone = stable(one.address.to_string().as_bytes());
            let itself = address.map_or(alone, |own| stable(own.to_string().as_bytes()));
            let name = if has_others { itself } else { alone };
            let is_taken = address.is_some() || !one.address.is_name();
            Place { address: *address, is_taken, name, alone, itself, has_others, left: *left }
        };
        let at = cluster.endpoints.iter().zip(at).map(place).collect();
        Self { at, table: None, changes }
    }

    fn with_table(mut self, cluster: &Cluster) -> Self {
        self.table = (cluster.balance == Balance::Maglev).then(|| {
            let owner = |(number, one): (usize, &Place)| {
                let weight = cluster.endpoints[number].weight;
                // A name that is not resolved keeps its share: others do not move when it is.
                let counts = one.is_taken || cluster.endpoints[number].place == 0;
                counts.then_some((number, one.name, weight))
            };
            let owners = self.at.iter().enumerate().filter_map(owner).collect::<Vec<_>>();
            Arc::new(slots::SlotTable::new(&owners))
        });
        self
    }

    /// What is where when a name resolves to these addresses, of which those that find no place are left out.
    /// Of the free places an address takes one that was never used, or else the one that has been empty longest:
    /// what is still under way with the address that left is not held against the one that comes. A name with
    /// one address has it at its first place.
    #[must_use]
    pub fn resolved(&self, cluster: &Cluster, name: EndpointId, to: &[SocketAddr]) -> Self {
        let Some(of) = cluster.endpoints.get(usize::from(name.0)) else { return self.clone() };
        let changes = self.changes + 1;
        let mut at: Vec<_> = self.at.iter().map(|place| (place.address, place.left)).collect();
        let is_own = |number: &usize| cluster.endpoints[*number].address == of.address;
        let mut free: Vec<usize> = (0..at.len()).filter(is_own).collect();
        let own = free.clone();
        for number in &own {
            if at[*number].0.is_some_and(|address| !to.contains(&address)) {
                at[*number] = (None, changes);
            }
        }
        free.retain(|number| at[*number].0.is_none());
        match to {
            [_] => free.sort_by_key(|number| *number),
            _ => free.sort_by_key(|number| (at[*number].1, *number)),
        }
        let stays =
            |one: &&SocketAddr| own.iter().any(|number| self.at[*number].address == Some(**one));
        for (number, address) in free.into_iter().zip(to.iter().filter(|one| !stays(one))) {
            at[number] = (Some(*address), 0);
        }
        let is_same = self.at.iter().zip(&at).all(|(old, (new, _))| old.address == *new);
        if is_same {
            self.clone()
        } else {
            Self::standing(cluster, &at, changes).with_table(cluster)
        }
    }

    /// The same addresses stand at the same places.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let pairs = self.at.iter().zip(&*other.at);
        self.at.len() == other.at.len()
            && pairs.into_iter().all(|(one, other)| one.address == other.address)
    }

    /// What the name at this place resolves to; `None` where it is no name, or an empty place.
    #[must_use]
    pub fn address(&self, at: usize) -> Option<SocketAddr> {
        self.at[at].address
    }

    /// It is a name's, and no address stands there.
    #[must_use]
    pub fn is_empty(&self, at: usize) -> bool {
        !self.at[at].is_taken
    }

    /// What hashes know an endpoint by: its address as it is configured, and one of several addresses of a name
    /// by itself. So a name with one address keeps its keys when that changes.
    #[must_use]
    pub fn name(&self, at: usize) -> u64 {
        self.at[at].name
    }

    /// The endpoint that a sealed cookie names, whether its name had one address then or several.
    #[must_use]
    pub fn find(&self, name: u64) -> Option<EndpointId> {
        let is_itself =
            |place: &Place| place.is_taken && (place.name == name || place.itself == name);
        // One that was alone has kept its place when others came.
        let was_alone = |place: &Place| place.is_taken && place.alone == name;
        let found = self.at.iter().position(is_itself);
        found.or_else(|| self.at.iter().position(was_alone)).and_then(EndpointId::at)
    }

    /// Endpoints with a higher index are empty places.
    #[must_use]
    pub fn used(&self, cluster: &Cluster) -> usize {
        let counts = |at: &usize| self.at[*at].is_taken || cluster.endpoints[*at].place == 0;
        (0..self.at.len()).rfind(counts).map_or(0, |at| at + 1)
    }

    /// How many endpoints there are; a name that is not resolved is one.
    #[must_use]
    pub fn count(&self, cluster: &Cluster) -> usize {
        let all = || cluster.endpoints.iter().zip(&*self.at);
        let taken: HashSet<&Address> =
            all().filter(|(_, place)| place.is_taken).map(|(one, _)| &one.address).collect();
        let counts = |(one, place): &(&Endpoint, &Place)| {
            place.is_taken || (one.place == 0 && !taken.contains(&one.address))
        };
        all().filter(counts).count()
    }

    /// An endpoint as people know it: with its own address where its name has several.
    #[must_use]
    pub fn text(&self, cluster: &Cluster, at: usize) -> String {
        let configured = &cluster.endpoints[at].address;
        match self.at[at] {
            Place { address: Some(address), has_others: true, .. } => {
                format!("{configured} ({})", address.ip())
            }
            _ => configured.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::ADDRESSES_MAX;
    use crate::base::random::Random;
    use crate::config::lower::lower;

    fn cluster() -> Cluster {
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\n\
                    balance = \"maglev\"\n[[cluster.endpoint]]\naddress = \"a.test:80\"\n\
                    [[cluster.endpoint]]\naddress = \"10.0.0.9:80\"\n\
                    [[cluster.endpoint]]\naddress = \"b.test:80\"\n";
        let (config, problems) = lower(text);
        let mut config = config.unwrap_or_else(|| panic!("{}", problems.render("test", text)));
        config.clusters.remove(0).with_places(ADDRESSES_MAX)
    }

    fn ips(last: &[u8]) -> Vec<SocketAddr> {
        last.iter().map(|last| SocketAddr::from(([10, 0, 1, *last], 80))).collect()
    }

    fn at(places: &Places) -> Vec<(usize, u8)> {
        let last = |at: usize| match places.address(at)? {
            SocketAddr::V4(address) => Some((at, address.ip().octets()[3])),
            SocketAddr::V6(_) => None,
        };
        (0..places.at.len()).filter_map(last).collect()
    }

    #[test]
    fn an_address_keeps_its_place_and_a_new_one_takes_a_free_one() {
        let cluster = cluster();
        let (a, b) = (EndpointId(0), EndpointId(2));
        let places = Places::new(&cluster);
        assert_eq!((places.used(&cluster), places.count(&cluster)), (3, 3));
        assert!(places.is_empty(0) && !places.is_empty(1) && places.is_empty(2));
        let places = places.resolved(&cluster, a, &ips(&[1, 2, 3]));
        assert_eq!(at(&places), [(0, 1), (3, 2), (5, 3)]);
        let places = places.resolved(&cluster, b, &ips(&[7, 8]));
        assert_eq!(at(&places), [(0, 1), (2, 7), (3, 2), (4, 8), (5, 3)]);
        assert_eq!((places.used(&cluster), places.count(&cluster)), (6, 6));
        // One that leaves and one that comes: not at the place that was just left.
        let places = places.resolved(&cluster, a, &ips(&[2, 4]));
        assert_eq!(at(&places), [(2, 7), (3, 2), (4, 8), (7, 4)]);
        assert_eq!(places.text(&cluster, 3), "a.test:80 (10.0.1.2)");
        assert_eq!(places.text(&cluster, 1), "10.0.0.9:80");
        let places = places.resolved(&cluster, a, &[]);
        assert_eq!(at(&places), [(2, 7), (4, 8)]);
        assert_eq!((places.used(&cluster), places.count(&cluster)), (5, 4));
        let places = places.resolved(&cluster, a, &ips(&[9]));
        assert_eq!(at(&places), [(0, 9), (2, 7), (4, 8)], "one alone is at the first place");
    }

    #[test]
    fn whatever_dns_tells_each_address_has_one_place_and_keeps_it() {
        let mut cluster = cluster();
        // Its table takes longer to build than all the rest.
        cluster.balance = Balance::RoundRobin;
        let mut random = Random::new(3);
        let mut places = Places::new(&cluster);
        let mut told = [Vec::new(), Vec::new()];
        for _ in 0..3000 {
            let which = random.below(2) as usize;
            let count = random.below(7);
            let mut any = || u8::try_from(random.below(12)).unwrap();
            let mut last: Vec<u8> = (0..count).map(|_| any()).collect();
            last.sort_unstable();
            last.dedup();
            let before = at(&places);
            places = places.resolved(
                &cluster,
                if which == 0 { EndpointId(0) } else { EndpointId(2) },
                &ips(&last),
            );
            told[which] = last;
            let now = at(&places);
            for (which, told) in told.iter().enumerate() {
                let name = &cluster.endpoints[2 * which].address;
                let own = now.iter().filter(|(at, _)| cluster.endpoints[*at].address == *name);
                let mut own: Vec<u8> = own.map(|(_, last)| *last).collect();
                own.sort_unstable();
                assert_eq!(own, *told);
            }
            // Which stay, stay where they are; only one that is alone may be moved to the first place by leaving.
            let stay = before.iter().filter(|one| {
                let which =
                    usize::from(cluster.endpoints[one.0].address != cluster.endpoints[0].address);
                told[which].contains(&one.1)
            });
            assert!(stay.clone().all(|one| now.contains(one)), "{before:?} {now:?}");
            assert_eq!(
                places.count(&cluster),
                now.len() + 1 + told.iter().filter(|one| one.is_empty()).count()
            );
            assert!(now.iter().all(|(at, _)| *at < places.used(&cluster)));
        }
    }

    #[test]
    fn more_addresses_than_places_are_left_out() {
        let cluster = cluster();
        let many: Vec<u8> = (0..=255).collect();
        let places = Places::new(&cluster).resolved(&cluster, EndpointId(0), &ips(&many));
        let own =
            cluster.endpoints.iter().filter(|one| one.address == cluster.endpoints[0].address);
        assert_eq!(at(&places).len(), own.count());
    }

    #[test]
    fn a_cookie_finds_its_address_whether_it_has_others_or_not() {
        let cluster = cluster();
        let a = EndpointId(0);
        let alone = Places::new(&cluster).resolved(&cluster, a, &ips(&[1]));
        let two = alone.resolved(&cluster, a, &ips(&[1, 2]));
        assert_eq!(two.find(two.name(3)), Some(EndpointId(3)));
        assert_eq!(
            two.find(alone.name(0)),
            Some(a),
            "one that was alone is found when others came"
        );
        let last = two.resolved(&cluster, a, &ips(&[2]));
        assert_eq!(last.find(two.name(3)), Some(EndpointId(3)));
        assert_eq!(last.find(two.name(0)), None, "that address is gone");
        let other = alone.resolved(&cluster, a, &ips(&[9]));
        assert_eq!(other.find(alone.name(0)), Some(a), "a name with one address is that name");
        assert_eq!(other.find(alone.name(2)), None, "a name without an address is no endpoint");
    }
}
