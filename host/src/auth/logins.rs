//! Logins by user name and password: the administrator of the configuration, and the local users.
//!
//! `http::users` asks here. What is in the way of guessing, and of taking the server down by it:
//!
//! - Hashes are checked on threads of their own, a few at once; some more wait, only a few of them from one address, and
//!   the rest is sent away. The administrator has no hash and waits for nobody, so they get in whatever is going on.
//! - Each check takes as long as any other, whether there is such a user or not.
//! - Failures are limited by address and by name. One address runs into its own limit long before that of a name, so that
//!   nobody can lock somebody else out by hammering at their name; and where many addresses hammer together, whoever has
//!   logged in from an address before still gets in from there.
//! - A try costs its name before it waits, and whoever turns out to be right has that back: by then it is decided whether
//!   it was the administrator, and nobody is to guess for nothing by being sent away, or by leaving.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::throttle::Throttle;
use super::users::LocalUsers;
use super::{Bearer, NativeLogin};

/// Failures from one address: so many at once, and one more every so often.
const PER_ADDRESS: (u32, Duration) = (20, Duration::from_secs(5));
/// Failures for one name, from wherever. One address alone never gets there.
const PER_NAME: (u32, Duration) = (100, Duration::from_secs(2));
/// Failures for a name from one address: all that counts where somebody has logged in by that name before.
const PER_PLACE: (u32, Duration) = (20, Duration::from_secs(5));
/// So many of those places are remembered.
const KNOWN: usize = 10_000;
/// So many logins may wait for their hash to be checked.
const WAITING: usize = 256;
/// So many of them from one address.
const WAITING_PER_ADDRESS: usize = 16;
/// How long whoever is sent away because of that should wait.
const BUSY: Duration = Duration::from_secs(2);

/// Why somebody isn't let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// The name or the password is wrong; which is nobody's business.
    #[error("the user name or the password is wrong")]
    Wrong,
    /// There were too many failures.
    #[error("there were too many failed logins: try again in {} s", seconds(*.0))]
    TooMany(Duration),
    /// Too many try at once.
    #[error("too many people log in at the moment: try again in {} s", seconds(*.0))]
    Busy(Duration),
}

/// Whole seconds, at least one: for `Retry-After`.
pub fn seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0 || wait.is_zero())
}

/// Somebody who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    /// Who they are.
    pub bearer: Bearer,
    /// What their refresh tokens stand on; see [`super::Authenticator::issue_refresh`].
    pub ground: String,
}

/// Logins by user name and password. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logins(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    native: NativeLogin,
    users: LocalUsers,
    by_address: Throttle,
    by_name: Throttle,
    by_place: Throttle,
    known: Mutex<Known>,
    hashing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// How many wait from each address. Has no more entries than there are places to wait.
    waiting_from: Mutex<HashMap<IpAddr, usize>>,
}

impl Inner {
    /// Users may be added while the server runs, and from then on the login that everybody knows is none any more.
    fn native_gives_way(&self) -> bool {
        self.native.is_default() && !self.users.now().is_empty()
    }
}

impl Logins {
    /// By this login, and as one of these users.
    pub fn new(native: NativeLogin, users: LocalUsers) -> Self {
        // Each takes a processor and some memory; half of them stay with everybody else.
        let at_once = available_parallelism().map_or(1, |count| (count.get() / 2).clamp(1, 4));
        Self(Arc::new(Inner {
            native,
            users,
            by_address: Throttle::new(PER_ADDRESS.0, PER_ADDRESS.1),
            by_name: Throttle::new(PER_NAME.0, PER_NAME.1),
            by_place: Throttle::new(PER_PLACE.0, PER_PLACE.1),
            known: Mutex::default(),
            hashing: Arc::new(Semaphore::new(at_once)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            waiting_from: Mutex::default(),
        }))
    }

    /// Whether anybody can log in this way.
    pub fn is_enabled(&self) -> bool {
        self.0.native.is_enabled() || !self.0.users.now().is_empty()
    }

    /// Whether the administrator can log in with an empty name and password.
    pub fn allows_empty(&self) -> bool {
        self.0.native.allows_empty()
    }

    /// Lets somebody in who asks from this address.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn log_in(&self, name: &str, password: &str, address: IpAddr) -> Result<LoggedIn, LoginError> {
        let address = network(address);
        let known = self.known().contains(name, address);
        self.admit(name, address, known)?;
        // Needs no hash, so there is nothing to wait for.
        let found = match self.0.native.check(name, password) {
            Some(administrator) => Some(administrator),
            None => {
                self.charge(name, address, known);
                let found = self.check_user(name, password, address, known).await?;
                if found.is_some() {
                    self.give_back(name, address, known);
                }
                found
            }
        };
        let Some(bearer) = found else {
            tracing::info!(%address, "a login failed: wrong user name or password");
            if !known {
                self.0.by_address.charge(&address);
            }
            return Err(LoginError::Wrong);
        };
        self.known().insert(name, address);
        // Whoever has just been taken out of the file is nobody any more.
        let (bearer, ground) = self.current(bearer.id.as_str()).ok_or(LoginError::Wrong)?;
        Ok(LoggedIn { bearer, ground })
    }

    /// The user of this id as they are now, and what their refresh tokens stand on; `None`: there is no such user any more.
    pub fn current(&self, id: &str) -> Option<(Bearer, String)> {
        let native = if self.0.native_gives_way() { None } else { self.0.native.current(id) };
        native.or_else(|| self.0.users.current(id))
    }

    /// The local user, if this is their password, when it is their turn.
    async fn check_user(
        &self,
        name: &str,
        password: &str,
        address: IpAddr,
        known: bool,
    ) -> Result<Option<Bearer>, LoginError> {
        // Without hashes to check there is nothing to wait for.
        if self.0.users.now().is_empty() {
            return Ok(None);
        }
        let _waits = self.wait_from(address).ok_or(LoginError::Busy(BUSY))?;
        let turn = Arc::clone(&self.0.hashing).acquire_owned().await.expect("it is never closed");
        // Those who were before may have used up the room.
        let wait = if known { Duration::ZERO } else { self.0.by_address.wait(&address) };
        if !wait.is_zero() {
            return Err(LoginError::TooMany(wait));
        }
        let (inner, name, password) = (Arc::clone(&self.0), name.to_owned(), password.to_owned());
        let checked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            // In any case, for the sake of the time that it takes. A local user of the administrator's name is nobody, while
            // there is that login: who that is must not depend on the password.
            let is_taken = inner.native.is_called(&name) && !inner.native_gives_way();
            inner.users.check(&name, &password).filter(|_| !is_taken)
        });
        Ok(checked.await.expect("checking a hash doesn't panic"))
    }

    /// A place to wait in; `None`: there is none left, or none for this address.
    fn wait_from(&self, address: IpAddr) -> Option<Waiting> {
        let permit = Arc::clone(&self.0.waiting).try_acquire_owned().ok()?;
        let mut from = self.0.waiting_from.lock().unwrap_or_else(PoisonError::into_inner);
        let count = from.entry(address).or_default();
        if *count >= WAITING_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Waiting { inner: Arc::clone(&self.0), address, _permit: permit })
    }

    fn admit(&self, name: &str, address: IpAddr, known: bool) -> Result<(), LoginError> {
        let mut wait = self.0.by_place.wait(&(name, address));
        if !known {
            wait = wait.max(self.0.by_address.wait(&address)).max(self.0.by_name.wait(&name));
        }
        if wait.is_zero() { Ok(()) } else { Err(LoginError::TooMany(wait)) }
    }

    fn charge(&self, name: &str, address: IpAddr, known: bool) {
        self.0.by_place.charge(&(name, address));
        if !known {
            self.0.by_name.charge(&name);
        }
    }

    fn give_back(&self, name: &str, address: IpAddr, known: bool) {
        self.0.by_place.give_back(&(name, address));
        if !known {
            self.0.by_name.give_back(&name);
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place to wait in, until it is dropped.
struct Waiting {
    inner: Arc<Inner>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // Before the permit goes, so that there are never more entries than permits.
        let mut from = self.inner.waiting_from.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = from.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                from.remove(&self.address);
            }
        }
    }
}

/// What counts as one address: of IPv6 the network, since whoever has one has all addresses in it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

/// From where people have logged in, by what name: the latest of them.
#[derive(Debug, Default)]
struct Known {
    hasher: RandomState,
    all: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Known {
    fn contains(&self, name: &str, address: IpAddr) -> bool {
        self.all.contains(&self.hasher.hash_one((name, address)))
    }

    fn insert(&mut self, name: &str, address: IpAddr) {
        let place = self.hasher.hash_one((name, address));
        if self.all.insert(place) {
            self.order.push_back(place);
            if self.order.len() > KNOWN
                && let Some(oldest) = self.order.pop_front()
            {
                self.all.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::users::file::edit;
    use crate::auth::users::password::PasswordHash;
    use crate::auth::users::{Entry, UsersError, UsersSource};

    fn logins() -> Logins {
        Logins::new(NativeLogin::new("admin", "s3cret", false), LocalUsers::none())
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    /// Fails until it is told to wait; how often that was.
    async fn hammer(logins: &Logins, name: &str, from: IpAddr) -> usize {
        let mut failures = 0;
        while logins.log_in(name, "wrong", from).await == Err(LoginError::Wrong) {
            failures += 1;
        }
        failures
    }

    #[tokio::test]
    async fn who_guesses_is_slowed_down_and_nobody_else() {
        let logins = logins();
        let failures = hammer(&logins, "admin", address(1)).await;
        assert!((20..25).contains(&failures), "{failures}");
        // Not even with the right password, or else the limit would say which that is.
        let refused = logins.log_in("admin", "s3cret", address(1)).await.expect_err("wait");
        assert!(matches!(refused, LoginError::TooMany(wait) if wait <= Duration::from_secs(5)), "{refused}");
        logins.log_in("admin", "s3cret", address(2)).await.expect("from elsewhere");
    }

    #[tokio::test]
    async fn where_many_hammer_at_a_name_those_get_in_who_have_been_there_before() {
        let logins = logins();
        logins.log_in("admin", "s3cret", address(200)).await.expect("let in");
        let mut failures = 0;
        for attacker in 1..=20 {
            failures += hammer(&logins, "admin", address(attacker)).await;
        }
        assert!((100..120).contains(&failures), "{failures}");
        assert!(matches!(logins.log_in("admin", "wrong", address(100)).await, Err(LoginError::TooMany(_))));
        logins.log_in("admin", "s3cret", address(200)).await.expect("from where they have been before");
        // From there, too, one doesn't guess for ever, and other names are not held up.
        let failures = hammer(&logins, "admin", address(200)).await;
        assert!((20..25).contains(&failures), "{failures}");
        assert_eq!(logins.log_in("other", "wrong", address(150)).await, Err(LoginError::Wrong));
    }

    #[tokio::test]
    async fn right_logins_never_count() {
        let logins = logins();
        for _ in 0..200 {
            logins.log_in("admin", "s3cret", address(1)).await.expect("let in");
        }
    }

    #[test]
    fn one_address_has_only_some_of_the_places_to_wait_in() {
        let logins = logins();
        let first: Vec<_> = std::iter::from_fn(|| logins.wait_from(address(1))).collect();
        assert_eq!(first.len(), WAITING_PER_ADDRESS);
        let others: Vec<_> = (2..=255).map_while(|last| logins.wait_from(address(last))).collect();
        assert_eq!(first.len() + others.len(), WAITING);
        drop(first);
        assert!(logins.wait_from(address(1)).is_some());
        drop(others);
        assert!(logins.0.waiting_from.lock().expect("whole").is_empty());
    }

    #[tokio::test]
    async fn nobody_guesses_for_nothing_by_being_sent_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("users.yml");
        let password = PasswordHash::of("correct horse").expect("hashed");
        edit::<UsersError>(&path, |all| {
            all.insert("alice", Entry { password, admin: false, collections: Vec::new() });
            Ok(())
        })
        .expect("written");
        let users = LocalUsers::open(UsersSource { path, required: true }).expect("read");
        let logins = Logins::new(NativeLogin::new("admin", "s3cret", false), users);
        let places: Vec<_> = std::iter::from_fn(|| logins.wait_from(address(1))).collect();
        for name in ["admin", "alice", "nobody"] {
            let mut tries = 0;
            while matches!(logins.log_in(name, "wrong", address(1)).await, Err(LoginError::Busy(_))) {
                tries += 1;
            }
            assert!((20..25).contains(&tries), "{name}: {tries}");
        }
        // Somebody else there, and the administrator elsewhere, have nothing to do with it.
        assert!(matches!(logins.log_in("bob", "x", address(1)).await, Err(LoginError::Busy(_))));
        logins.log_in("admin", "s3cret", address(2)).await.expect("waits for nobody");
        drop(places);
        for _ in 0..30 {
            logins.log_in("alice", "correct horse", address(2)).await.expect("what it cost was given back");
        }
    }

    #[test]
    fn addresses_of_one_network_count_as_one() {
        let parse = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(network(parse("2001:db8::1")), network(parse("2001:db8::ffff:1")));
        assert_ne!(network(parse("2001:db8::1")), network(parse("2001:db8:0:1::1")));
        assert_eq!(network(parse("::ffff:192.0.2.1")), parse("192.0.2.1"));
    }

    #[test]
    fn what_is_remembered_of_addresses_is_bounded() {
        let mut known = Known::default();
        for index in 0..KNOWN + 10 {
            known.insert(&index.to_string(), address(1));
        }
        assert_eq!((known.all.len(), known.order.len()), (KNOWN, KNOWN));
        assert!(!known.contains("0", address(1)) && known.contains("100", address(1)));
    }

    #[test]
    fn waits_are_told_in_whole_seconds() {
        for (wait, told) in [(0, 1), (1, 1), (1000, 1), (1001, 2), (4999, 5)] {
            assert_eq!(seconds(Duration::from_millis(wait)), told);
        }
    }
}
