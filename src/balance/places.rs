//! Where the addresses of names stand. Each address of a name is an endpoint of its own (RELIABILITY R36), so
//! that requests are spread over addresses, and each is judged by itself; but endpoints are known by their
//! index, which must stay the same while a plan lasts. So a name has as many places among its cluster's
//! endpoints as it may have addresses (`model::Cluster::with_places`); an address that DNS tells takes a free
//! one, keeps it for as long as it is told, and leaves it empty.

use std::net::SocketAddr;
use std::sync::Arc;

use super::maglev;
use crate::base::hash::stable;
use crate::base::id::EndpointId;
use crate::config::model::{Address, Balance, Cluster};

/// The addresses at a cluster's places, for all shards.
#[derive(Clone, Debug)]
pub struct Places {
    at: Arc<[Place]>,
    /// For those algorithms that have one.
    pub(super) table: Option<Arc<maglev::Table>>,
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
    /// Whether its name has other addresses too.
    has_others: bool,
}

impl Places {
    /// Where no name is resolved yet.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        Self::of(cluster, &vec![None; cluster.endpoints.len()])
    }

    fn of(cluster: &Cluster, addresses: &[Option<SocketAddr>]) -> Self {
        let count = |of: &Address| {
            let all = cluster.endpoints.iter().zip(addresses);
            all.filter(|(one, address)| one.address == *of && address.is_some()).count()
        };
        let place = |(one, address): (&crate::config::model::Endpoint, &Option<SocketAddr>)| {
            let has_others = address.is_some() && count(&one.address) > 1;
            let name = match address {
                Some(address) if has_others => stable(address.to_string().as_bytes()),
                _ => stable(one.address.to_string().as_bytes()),
            };
            let is_taken = address.is_some() || !one.address.is_name();
            Place { address: *address, is_taken, name, has_others }
        };
        let at: Arc<[Place]> = cluster.endpoints.iter().zip(addresses).map(place).collect();
        let table = (cluster.balance == Balance::Maglev).then(|| {
            let owner = |(number, one): (usize, &Place)| {
                let weight = cluster.endpoints[number].weight;
                // A name that is not resolved keeps its share: others do not move when it is.
                let counts = one.is_taken || cluster.endpoints[number].place == 0;
                counts.then_some((number, one.name, weight))
            };
            let owners = at.iter().enumerate().filter_map(owner).collect::<Vec<_>>();
            Arc::new(maglev::Table::new(&owners))
        });
        Self { at, table }
    }

    /// What is where when a name resolves to these addresses, of which those that find no place are left out.
    #[must_use]
    pub fn resolved(&self, cluster: &Cluster, name: EndpointId, to: &[SocketAddr]) -> Self {
        let mut at: Vec<_> = self.at.iter().map(|place| place.address).collect();
        let Some(of) = cluster.endpoints.get(usize::from(name.0)) else { return self.clone() };
        let own = |number: &usize| cluster.endpoints[*number].address == of.address;
        let own: Vec<usize> = (0..at.len()).filter(own).collect();
        for number in &own {
            at[*number] = at[*number].filter(|address| to.contains(address));
        }
        let stays =
            |one: &&SocketAddr| own.iter().any(|number| self.at[*number].address == Some(**one));
        let mut new = to.iter().filter(|one| !stays(one));
        for number in &own {
            if at[*number].is_none() {
                at[*number] = new.next().copied();
            }
        }
        Self::of(cluster, &at)
    }

    /// The same addresses stand at the same places.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.at == other.at
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

    /// The endpoint that a sealed cookie names.
    #[must_use]
    pub fn find(&self, name: u64) -> Option<EndpointId> {
        let is_named = |place: &Place| {
            let own = place.address.filter(|_| !place.has_others);
            // One that is alone now may have had others when the cookie was sealed.
            place.is_taken
                && (place.name == name
                    || own.is_some_and(|own| stable(own.to_string().as_bytes()) == name))
        };
        self.at.iter().position(is_named).and_then(super::id)
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
        let is_first = |at: &usize| {
            let one = &cluster.endpoints[*at];
            let mut others = cluster.endpoints.iter().zip(&*self.at);
            one.place == 0
                && !others.any(|(other, place)| other.address == one.address && place.is_taken)
        };
        (0..self.at.len()).filter(|at| self.at[*at].is_taken || is_first(at)).count()
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
    use crate::config::lower::lower;

    fn cluster() -> Cluster {
        let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n[[route]]\ncluster = \"c\"\n[[cluster]]\nname = \"c\"\n\
                    balance = \"maglev\"\n[[cluster.endpoint]]\naddress = \"a.test:80\"\n\
                    [[cluster.endpoint]]\naddress = \"10.0.0.9:80\"\n\
                    [[cluster.endpoint]]\naddress = \"b.test:80\"\n";
        let (config, problems) = lower(text);
        let mut config = config.unwrap_or_else(|| panic!("{}", problems.render("test", text)));
        config.clusters.remove(0).with_places()
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
        let places = places.resolved(&cluster, a, &ips(&[2, 4]));
        assert_eq!(at(&places), [(0, 4), (2, 7), (3, 2), (4, 8)]);
        assert_eq!(places.text(&cluster, 3), "a.test:80 (10.0.1.2)");
        assert_eq!(places.text(&cluster, 1), "10.0.0.9:80");
        let places = places.resolved(&cluster, a, &[]);
        assert_eq!(at(&places), [(2, 7), (4, 8)]);
        assert_eq!((places.used(&cluster), places.count(&cluster)), (5, 4));
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
        let last = two.resolved(&cluster, a, &ips(&[2]));
        assert_eq!(last.find(two.name(3)), Some(EndpointId(3)));
        assert_eq!(last.find(two.name(0)), None, "that address is gone");
        let other = alone.resolved(&cluster, a, &ips(&[9]));
        assert_eq!(other.find(alone.name(0)), Some(a), "a name with one address is that name");
        assert_eq!(other.find(alone.name(2)), None, "a name without an address is nobody");
    }
}
