//! Whether this machine lets the server make containers, found out by making some.
//!
//! What a kernel, a distribution or an outer container forbids can't be told from settings alone, so a lab with two
//! nodes and a link is built and thrown away. Settings are only looked at to say what to change.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::protocol::{EndPlan, Frame, Frames, LabPlan, LinkPlan, Message, NodePlan, Op, Refusal, Request};
use super::{EmbeddedOptions, helper, plan};

const PATIENCE: Duration = Duration::from_secs(15);

/// Why the embedded runtime can't run on this machine: one sentence that says what to switch on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(String);

/// Builds a small lab and takes it down again.
pub(super) fn check(options: &EmbeddedOptions) -> Result<(), Unavailable> {
    if let Some(path) = options.hidden.iter().find(|path| !path.is_absolute()) {
        let path = path.display();
        return Err(Unavailable(format!("can't hide {path} from nodes: a path from the root of the host is needed")));
    }
    attempt(options).map_err(|reason| Unavailable(explain(&reason, &Settings::read())))
}

fn attempt(options: &EmbeddedOptions) -> Result<(), String> {
    let step = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let (mut ours, theirs) = UnixStream::pair().map_err(step("making a socket"))?;
    ours.set_read_timeout(Some(PATIENCE)).map_err(step("making a socket"))?;
    let mut child = Command::new(&options.helper)
        .arg0("antimony-host")
        .arg(helper::KEEPER)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("starting {}: {error}", options.helper.display()))?;
    let result = build(&mut ours, options);
    drop(ours);
    // There is nothing to wait on with a limit of time; it ends within milliseconds as a rule.
    let until = Instant::now() + PATIENCE;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    // Does nothing to one that has ended.
    let _ = child.kill();
    let _ = child.try_wait();
    result
}

fn build(socket: &mut UnixStream, options: &EmbeddedOptions) -> Result<(), String> {
    let node = |name: &str| NodePlan {
        name: name.to_owned(),
        command: Vec::new(),
        env: Vec::new(),
        user: (0, 0),
        sysctls: Vec::new(),
        memory: options.memory,
        hosts: String::new(),
        binds: Vec::new(),
    };
    let end =
        |node, last| EndPlan { node, interface: "eth1".to_owned(), mac: [2, 0, 0, 0, 0, last], addresses: Vec::new() };
    let lab = LabPlan {
        instance: "preflight".to_owned(),
        ids: plan::id_map(2),
        nodes: vec![node("a"), node("b")],
        links: vec![LinkPlan { ends: [end(0, 1), end(1, 2)], mtu: 1500 }],
        processes: options.processes,
        disk: options.disk,
        hidden: options.hidden.clone(),
        files: Vec::new(),
    };
    let mut frames = Frames::default();
    say(socket, &Frame::json(&lab))?;
    hear(socket, &mut frames)?;
    let ops = [Op::CreateNode(0), Op::CreateNode(1), Op::CreateLink(0), Op::Start(0), Op::Destroy { grace: 5000 }];
    for (id, op) in (1..).zip(ops) {
        say(socket, &Frame::json(&Request { id, op }))?;
        hear(socket, &mut frames)?;
    }
    Ok(())
}

fn say(socket: &mut UnixStream, frame: &Frame) -> Result<(), String> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    // If the helper has ended, what it said last tells more than this error.
    let _ = socket.write_all(&bytes);
    Ok(())
}

/// Waits until the helper is ready, or has done what it was asked.
fn hear(socket: &mut UnixStream, frames: &mut Frames) -> Result<(), String> {
    let mut bytes = vec![0; 4096];
    loop {
        while let Some(frame) = frames.next()? {
            let Frame::Json(body) = frame else { continue };
            match Frame::parse(&body)? {
                Message::Ready { .. } | Message::Reply { result: Ok(_), .. } => return Ok(()),
                Message::Reply { result: Err(Refusal::Failed(reason)), .. } | Message::Fatal(reason) => {
                    return Err(reason);
                }
                Message::Reply { result: Err(Refusal::NotRunning), .. } => {
                    return Err("a node did not start".to_owned());
                }
                Message::NodeExited { .. } | Message::TerminalExited { .. } => {}
            }
        }
        match socket.read(&mut bytes) {
            Ok(0) => return Err("the helper process ended".to_owned()),
            Ok(length) => frames.push(&bytes[..length]),
            Err(error) => return Err(format!("the helper process: {error}")),
        }
    }
}

/// Settings that forbid user namespaces, where a kernel has them.
#[derive(Debug, Default)]
struct Settings {
    max_user_namespaces: Option<String>,
    unprivileged_userns_clone: Option<String>,
    apparmor_restrict: Option<String>,
    root: bool,
}

impl Settings {
    fn read() -> Self {
        let read = |path| fs::read_to_string(path).ok().map(|text: String| text.trim().to_owned());
        Self {
            max_user_namespaces: read("/proc/sys/user/max_user_namespaces"),
            unprivileged_userns_clone: read("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restrict: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            root: nix::unistd::geteuid().is_root(),
        }
    }
}

fn explain(reason: &str, settings: &Settings) -> String {
    let is = |setting: &Option<String>, value: &str| setting.as_deref() == Some(value);
    if is(&settings.max_user_namespaces, "0") {
        return format!(
            "the embedded runtime needs user namespaces, which are switched off here: \
             run `sysctl -w user.max_user_namespaces=15000` as root ({reason})"
        );
    }
    if !settings.root && is(&settings.unprivileged_userns_clone, "0") {
        return format!(
            "the embedded runtime needs user namespaces, which only root may make here: run \
             `sysctl -w kernel.unprivileged_userns_clone=1` as root, or the server as root ({reason})"
        );
    }
    if !settings.root && is(&settings.apparmor_restrict, "1") {
        return format!(
            "the embedded runtime needs user namespaces, which AppArmor keeps from ordinary programs here: run \
             `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` as root, or the server as root ({reason})"
        );
    }
    format!(
        "the embedded runtime can't make containers here ({reason}): it needs a Linux kernel with user namespaces and \
         veth, and if this is a container itself, one that may make namespaces and has an unmasked /proc"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_names_the_setting_that_forbids_it() {
        let zero = || Some("0".to_owned());
        let off = Settings { max_user_namespaces: zero(), root: true, ..Settings::default() };
        assert!(explain("x", &off).contains("user.max_user_namespaces"));
        let debian = Settings { unprivileged_userns_clone: zero(), ..Settings::default() };
        assert!(explain("x", &debian).contains("kernel.unprivileged_userns_clone=1"));
        let ubuntu = Settings { apparmor_restrict: Some("1".to_owned()), ..Settings::default() };
        assert!(explain("x", &ubuntu).contains("apparmor_restrict_unprivileged_userns=0"));
        let other = explain("making a user namespace: denied", &Settings { root: true, ..ubuntu });
        assert!(other.contains("making a user namespace: denied") && !other.contains("apparmor"));
    }
}
