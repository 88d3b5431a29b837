//! How many connections there are, in all and from each address, and whether another is let in.
//!
//! Each connection holds a [`Permit`] for as long as it is open, web sockets included. Whoever comes when there are too
//! many is turned away at once: to let them wait would have everybody wait behind whoever opens connections to no purpose.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit};

use super::config::LimitsConfig;

/// Open files that are left for everything that is no connection: the database, logs, containers, shells.
const FILES_OF_OUR_OWN: u64 = 256;

/// Counts connections and lets in no more than there may be. Cheap to clone.
#[derive(Clone)]
pub struct Admission(Arc<Inner>);

struct Inner {
    most: usize,
    most_per_address: usize,
    is_exempt: Box<dyn Fn(IpAddr) -> bool + Send + Sync>,
    open: Mutex<Open>,
    refused: Refusals,
}

/// What is open now.
#[derive(Default)]
struct Open {
    all: usize,
    /// By address, or what stands for it; only those that have any.
    by_address: HashMap<IpAddr, usize>,
}

#[derive(Default)]
struct Refusals {
    too_many: AtomicU64,
    too_many_of_address: AtomicU64,
}

/// Why a connection isn't let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are as many as there may be.
    InAll,
    /// There are as many as there may be from one address.
    FromAddress,
}

impl Full {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::InAll => "all",
            Self::FromAddress => "address",
        }
    }
}

/// Lets a connection be open; to be dropped when it is closed.
pub struct Permit {
    admission: Admission,
    counted_for: Option<IpAddr>,
}

impl Admission {
    /// Lets in what `limits` say. Addresses that are `exempt` may have any number of connections.
    pub fn new(limits: &LimitsConfig, exempt: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
        let most = limits.connections.min(most_with(files));
        if most < limits.connections {
            tracing::info!(
                connections = most,
                open_files = files,
                "so many connections there can be: the system allows no more open files (`ulimit -n`, LimitNOFILE=)"
            );
        }
        Self(Arc::new(Inner {
            most,
            most_per_address: limits.connections_per_address,
            is_exempt: Box::new(exempt),
            open: Mutex::default(),
            refused: Refusals::default(),
        }))
    }

    /// Lets in a connection from this address, or says why not.
    ///
    /// # Errors
    /// [`Full`]; it has been counted.
    pub fn admit(&self, address: IpAddr) -> Result<Permit, Full> {
        let inner = &self.0;
        let key = (!(inner.is_exempt)(address)).then(|| key_of(address));
        let mut open = inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= inner.most {
            inner.refused.too_many.fetch_add(1, Ordering::Relaxed);
            return Err(Full::InAll);
        }
        if let Some(key) = key {
            let count = open.by_address.entry(key).or_default();
            if *count >= inner.most_per_address {
                inner.refused.too_many_of_address.fetch_add(1, Ordering::Relaxed);
                return Err(Full::FromAddress);
            }
            *count += 1;
        }
        open.all += 1;
        Ok(Permit { admission: self.clone(), counted_for: key })
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// How many were turned away, by reason.
    pub fn refused(&self) -> [(Full, u64); 2] {
        let refused = &self.0.refused;
        [
            (Full::InAll, refused.too_many.load(Ordering::Relaxed)),
            (Full::FromAddress, refused.too_many_of_address.load(Ordering::Relaxed)),
        ]
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.admission.0.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        if let Some(address) = self.counted_for
            && let Some(count) = open.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&address);
            }
        }
    }
}

/// How many connections there can be with so many open files.
fn most_with(files: u64) -> usize {
    let ours = FILES_OF_OUR_OWN.min(files / 2);
    usize::try_from(files - ours).unwrap_or(usize::MAX)
}

/// What connections of an address are counted by: whoever has one of IPv6 mostly has a network of 64 bits of them.
fn key_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn admission(connections: usize, connections_per_address: usize) -> Admission {
        let limits = LimitsConfig { connections, connections_per_address, ..LimitsConfig::default() };
        Admission::new(&limits, |address| address.is_loopback())
    }

    #[test]
    fn an_address_with_too_many_connections_gets_no_more_and_others_do() {
        let admission = admission(10, 2);
        let first = admission.admit(address("192.0.2.1")).expect("let in");
        let _second = admission.admit(address("::ffff:192.0.2.1")).expect("let in");
        assert_eq!(admission.admit(address("192.0.2.1")).err(), Some(Full::FromAddress));
        let _other = admission.admit(address("192.0.2.2")).expect("let in");
        drop(first);
        let _again = admission.admit(address("192.0.2.1")).expect("let in");
        assert_eq!((admission.open(), admission.refused()), (3, [(Full::InAll, 0), (Full::FromAddress, 1)]));
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let admission = admission(10, 1);
        let _one = admission.admit(address("2001:db8::1")).expect("let in");
        assert_eq!(admission.admit(address("2001:db8::2")).err(), Some(Full::FromAddress));
        let _other = admission.admit(address("2001:db8:0:1::1")).expect("let in");
    }

    #[test]
    fn exempt_addresses_have_as_many_as_there_are_and_nothing_is_left_behind() {
        let admission = admission(3, 1);
        let permits: Vec<_> = (0..3).map(|_| admission.admit(address("127.0.0.1")).expect("let in")).collect();
        assert_eq!(admission.admit(address("127.0.0.1")).err(), Some(Full::InAll));
        assert_eq!(admission.admit(address("192.0.2.1")).err(), Some(Full::InAll));
        drop(permits);
        drop(admission.admit(address("192.0.2.1")).expect("let in"));
        assert_eq!(admission.open(), 0);
        assert!(admission.0.open.lock().expect("no panic").by_address.is_empty());
    }

    #[test]
    fn some_open_files_are_left_for_the_rest() {
        assert_eq!(most_with(1024), 768);
        assert_eq!(most_with(100), 50);
    }
}
