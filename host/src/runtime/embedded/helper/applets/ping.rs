//! `ping`: ICMP echo over IPv4 and IPv6, with the options that people use and the output that they and scripts expect.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

const USAGE: &str =
    "usage: ping [-4|-6] [-n] [-q] [-c count] [-i seconds] [-W seconds] [-w seconds] [-s bytes] [-t ttl] destination";

#[derive(Debug, PartialEq)]
struct Options {
    destination: String,
    family: Option<Domain>,
    quiet: bool,
    count: Option<u64>,
    interval: Duration,
    /// How long to wait for the answer to the last request.
    patience: Duration,
    /// When to end, whatever has been sent.
    deadline: Option<Duration>,
    size: usize,
    ttl: Option<u32>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            destination: String::new(),
            family: None,
            quiet: false,
            count: None,
            interval: Duration::from_secs(1),
            patience: Duration::from_secs(1),
            deadline: None,
            size: 56,
            ttl: None,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let Some(flags) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                options.destination.clone_from(word);
                continue;
            };
            let mut flags = flags.chars();
            while let Some(flag) = flags.next() {
                match flag {
                    '4' => options.family = Some(Domain::IPV4),
                    '6' => options.family = Some(Domain::IPV6),
                    'n' => {}
                    'q' => options.quiet = true,
                    'c' | 'i' | 'W' | 'w' | 's' | 't' => {
                        let rest: String = flags.by_ref().collect();
                        let value = if rest.is_empty() { words.next().cloned() } else { Some(rest) };
                        let value = value.ok_or_else(|| format!("option -{flag} needs a value\n{USAGE}"))?;
                        options.set(flag, &value)?;
                    }
                    _ => return Err(format!("unknown option -{flag}\n{USAGE}")),
                }
            }
        }
        if options.destination.is_empty() { Err(USAGE.to_owned()) } else { Ok(options) }
    }

    fn set(&mut self, flag: char, value: &str) -> Result<(), String> {
        let bad = || format!("bad value for -{flag}: {value}");
        let number = || value.parse::<u64>().map_err(|_| bad());
        let seconds = || {
            let seconds = value.parse::<f64>().map_err(|_| bad())?;
            Duration::try_from_secs_f64(seconds).map_err(|_| bad())
        };
        match flag {
            'c' => self.count = Some(number()?.max(1)),
            'i' => self.interval = seconds()?.max(Duration::from_millis(2)),
            'W' => self.patience = seconds()?,
            'w' => self.deadline = Some(seconds()?),
            's' => self.size = usize::try_from(number()?).ok().filter(|size| *size <= 65_000).ok_or_else(bad)?,
            _ => self.ttl = Some(u32::try_from(number()?).map_err(|_| bad())?),
        }
        Ok(())
    }
}

/// 0: every run that got at least one answer; 1: none; 2: it could not be tried.
pub(super) fn main(arguments: &[String]) -> ExitCode {
    match Options::parse(arguments).and_then(|options| ping(&options).map_err(|error| error.to_string())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "ping: {error}");
            ExitCode::from(2)
        }
    }
}

fn resolve(options: &Options) -> io::Result<IpAddr> {
    if let Ok(address) = options.destination.parse() {
        return Ok(address);
    }
    let fits = |address: &IpAddr| options.family.is_none_or(|family| (family == Domain::IPV4) == address.is_ipv4());
    let unknown = || io::Error::other(format!("{}: Name or service not known", options.destination));
    let found = (options.destination.as_str(), 0).to_socket_addrs().map_err(|_| unknown())?;
    found.map(|address| address.ip()).find(fits).ok_or_else(unknown)
}

fn ping(options: &Options) -> io::Result<bool> {
    let address = resolve(options)?;
    let mut session = Session::open(options, address)?;
    let mut out = io::stdout();
    writeln!(out, "PING {} ({address}) {} data bytes", options.destination, options.size)?;
    let begun = Instant::now();
    let end = options.deadline.map(|after| begun + after);
    let (mut sent, mut times) = (0, Vec::new());
    loop {
        let now = Instant::now();
        if options.count.is_some_and(|count| sent == count) || end.is_some_and(|end| now >= end) {
            break;
        }
        let refused = session.send(sent).err();
        sent += 1;
        if let Some(error) = refused {
            writeln!(out, "ping: sendmsg: {error}")?;
        }
        let last = options.count == Some(sent);
        let mut until = now + if last { options.patience } else { options.interval };
        if let Some(end) = end {
            until = until.min(end);
        }
        while let Some(answer) = session.receive(until)? {
            times.push(answer.time);
            if !options.quiet {
                let ms = answer.time.as_secs_f64() * 1e3;
                let ttl = answer.ttl.map(|ttl| format!(" ttl={ttl}")).unwrap_or_default();
                writeln!(
                    out,
                    "{} bytes from {address}: icmp_seq={}{ttl} time={ms:.3} ms",
                    answer.bytes, answer.sequence
                )?;
            }
            if options.count.is_some_and(|count| times.len() as u64 >= count) {
                break;
            }
        }
    }
    writeln!(out, "\n--- {} ping statistics ---", options.destination)?;
    writeln!(out, "{}", summary(sent, &times, begun.elapsed()))?;
    Ok(!times.is_empty())
}

fn summary(sent: u64, times: &[Duration], elapsed: Duration) -> String {
    let received = times.len() as u64;
    let loss = 100.0 * (sent.saturating_sub(received)) as f64 / sent.max(1) as f64;
    let mut text = format!(
        "{sent} packets transmitted, {received} received, {loss:.0}% packet loss, time {}ms",
        elapsed.as_millis()
    );
    let ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    if let (Some(min), Some(max)) = (ms.iter().copied().reduce(f64::min), ms.iter().copied().reduce(f64::max)) {
        let average = ms.iter().sum::<f64>() / ms.len() as f64;
        let deviation = (ms.iter().map(|time| (time - average).powi(2)).sum::<f64>() / ms.len() as f64).sqrt();
        let _ = write!(text, "\nrtt min/avg/max/mdev = {min:.3}/{average:.3}/{max:.3}/{deviation:.3} ms");
    }
    text
}

struct Answer {
    sequence: u16,
    bytes: usize,
    ttl: Option<u8>,
    time: Duration,
}

struct Session {
    socket: Socket,
    address: IpAddr,
    id: u16,
    size: usize,
    begun: Instant,
    /// Numbers that were answered, so that a doubled answer is not counted twice.
    answered: std::collections::HashSet<u16>,
}

impl Session {
    fn open(options: &Options, address: IpAddr) -> io::Result<Self> {
        let (domain, protocol) =
            if address.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        if let Some(ttl) = options.ttl {
            if address.is_ipv4() { socket.set_ttl_v4(ttl)? } else { socket.set_unicast_hops_v6(ttl)? }
        }
        // Only packets from there reach a connected socket.
        socket.connect(&SocketAddr::new(address, 0).into())?;
        let id = u16::try_from(std::process::id() & 0xffff).expect("16 bits are left");
        Ok(Self {
            socket,
            address,
            id,
            size: options.size,
            begun: Instant::now(),
            answered: std::collections::HashSet::new(),
        })
    }

    fn send(&mut self, count: u64) -> io::Result<()> {
        let sequence = u16::try_from((count + 1) & 0xffff).expect("16 bits are left");
        self.answered.remove(&sequence);
        let elapsed = u64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let packet = echo_request(self.address.is_ipv4(), self.id, sequence, elapsed, self.size);
        self.socket.send(&packet)?;
        Ok(())
    }

    /// The next answer to us, at most until then.
    fn receive(&mut self, until: Instant) -> io::Result<Option<Answer>> {
        let mut buffer = vec![0; 0x1_0000];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let length = match self.socket.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Such as "no route to host", told about a request that was sent before.
                Err(_) => continue,
            };
            let Some((ttl, icmp)) = strip(self.address.is_ipv4(), &buffer[..length]) else { continue };
            let Some((sequence, sent)) = echo_reply(self.address.is_ipv4(), self.id, icmp) else { continue };
            if !self.answered.insert(sequence) {
                continue;
            }
            let time =
                sent.map_or(Duration::ZERO, |sent| self.begun.elapsed().saturating_sub(Duration::from_nanos(sent)));
            return Ok(Some(Answer { sequence, bytes: icmp.len(), ttl, time }));
        }
    }
}

/// A request whose body starts with the time at which it was sent, if it is long enough.
fn echo_request(v4: bool, id: u16, sequence: u16, elapsed: u64, size: usize) -> Vec<u8> {
    let mut packet = vec![if v4 { 8 } else { 128 }, 0, 0, 0];
    packet.extend(id.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend((0..size).map(|index| u8::try_from(index & 0xff).expect("8 bits are left")));
    if size >= 8 {
        packet[8..16].copy_from_slice(&elapsed.to_be_bytes());
    }
    if v4 {
        // For IPv6 the kernel computes it, since it covers addresses that only the kernel knows.
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Takes the IPv4 header off, which raw sockets deliver along; answers what was its time to live.
fn strip(v4: bool, packet: &[u8]) -> Option<(Option<u8>, &[u8])> {
    if !v4 {
        return Some((None, packet));
    }
    let header = usize::from(packet.first()? & 0x0f) * 4;
    Some((packet.get(8).copied(), packet.get(header..)?))
}

/// Number and time of sending of an answer to one of our requests.
fn echo_reply(v4: bool, id: u16, icmp: &[u8]) -> Option<(u16, Option<u64>)> {
    let (head, body) = icmp.split_first_chunk::<8>()?;
    let ours = head[0] == if v4 { 0 } else { 129 } && head[4..6] == id.to_be_bytes();
    let sent = body.first_chunk::<8>().map(|time| u64::from_be_bytes(*time));
    ours.then(|| (u16::from_be_bytes([head[6], head[7]]), sent))
}

/// The internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_may_be_joined_to_their_values_or_not() {
        let options = Options::parse(&words("-c3 -W 2 -nq -i.2 10.0.0.2")).unwrap();
        assert_eq!((options.count, options.patience, options.quiet), (Some(3), Duration::from_secs(2), true));
        assert_eq!(options.interval, Duration::from_millis(200));
        assert_eq!(options.destination, "10.0.0.2");
        assert!(Options::parse(&words("-c")).is_err());
        assert!(Options::parse(&words("-z r2")).is_err());
        assert!(Options::parse(&[]).is_err());
    }

    #[test]
    fn a_request_has_a_checksum_that_adds_up() {
        for size in [0, 7, 56, 57] {
            let packet = echo_request(true, 7, 1, 99, size);
            assert_eq!(packet.len(), 8 + size);
            assert_eq!(checksum(&packet), 0);
        }
    }

    #[test]
    fn only_answers_to_this_process_count() {
        let mut answer = echo_request(true, 7, 5, 1234, 56);
        answer[0] = 0;
        assert_eq!(echo_reply(true, 7, &answer), Some((5, Some(1234))));
        assert_eq!(echo_reply(true, 8, &answer), None);
        assert_eq!(echo_reply(true, 7, &answer[..7]), None);
    }

    #[test]
    fn the_summary_reads_like_that_of_ping() {
        let text = summary(2, &[Duration::from_millis(1)], Duration::from_millis(1001));
        assert!(text.starts_with("2 packets transmitted, 1 received, 50% packet loss, time 1001ms"));
        assert!(text.contains("rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms"));
        assert!(summary(1, &[], Duration::ZERO).contains("100% packet loss"));
    }
}
