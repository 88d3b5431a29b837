//! What this machine is, and who gets which of its processors.

use std::fs;
use std::io;
use std::time::Duration;

use anyhow::Context as _;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{Pid, SysconfVar, sysconf};

/// Descriptors that a server or the client may need.
const DESCRIPTORS: u64 = 65_536;

/// The processors that the server and the client run on.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) server: Vec<usize>,
    pub(crate) client: Vec<usize>,
}

impl Places {
    /// Two for each, if there are four; otherwise all for both.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).context("ask for the processors of this process")?;
        let all: Vec<_> = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect();
        Ok(match all[..] {
            [a, b, c, d, ..] => Self { server: vec![a, b], client: vec![c, d] },
            _ => Self { server: all.clone(), client: all },
        })
    }

    /// Whether server and client have processors of their own.
    pub(crate) fn apart(&self) -> bool {
        self.server != self.client
    }
}

/// Has this thread, and the threads and processes that it starts from now on, run on `cpus` only.
pub(crate) fn pin(cpus: &[usize]) -> nix::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)
}

/// Lets this process, and those that it starts, have as many descriptors as they may. Answers how many that is.
pub(crate) fn raise_descriptor_limit() -> anyhow::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let raised = soft.max(hard.min(DESCRIPTORS));
    setrlimit(Resource::RLIMIT_NOFILE, raised, hard).context("raise the limit of open files")?;
    Ok(raised)
}

/// Processor time of this process so far.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.try_into().context("time runs forward")?))
}

fn ticks(ticks: u64) -> Duration {
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|value| u64::try_from(value).ok());
    Duration::from_millis(ticks * 1000 / per_second.unwrap_or(100))
}

/// Processor time of a process so far, with that of children that have ended left out.
pub(crate) fn cpu_of(process: u32) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("the server has ended")?;
    // The name may have spaces and parentheses in it; behind it comes the third field.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u64>().ok());
    Ok(ticks(field(14).zip(field(15)).map(|(user, system)| user + system).context("/proc/PID/stat has no times")?))
}

/// Memory of a process that is resident, in bytes.
pub(crate) fn resident(process: u32) -> anyhow::Result<u64> {
    // Exact, where `statm` and `status` may lag behind.
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))
        .or_else(|_| fs::read_to_string(format!("/proc/{process}/status")))
        .context("the server has ended")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:").or(line.strip_prefix("VmRSS:")));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kibibytes.context("the kernel doesn't say how much memory a process has")? * 1024)
}

/// Times that threads of a process have been switched away from: by themselves, and against their will.
pub(crate) fn switches(process: u32) -> anyhow::Result<(u64, u64)> {
    let (mut waited, mut displaced) = (0, 0);
    for thread in fs::read_dir(format!("/proc/{process}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        waited += value("voluntary_ctxt_switches:");
        displaced += value("nonvoluntary_ctxt_switches:");
    }
    Ok((waited, displaced))
}

/// Processor time that the whole machine has spent so far on anything.
pub(crate) fn busy() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).map_while(|f| f.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guests are part of user and nice.
    let spent = fields.iter().take(8).enumerate().filter(|(index, _)| ![3, 4].contains(index)).map(|(_, f)| f).sum();
    Ok(ticks(spent))
}

/// The load average of the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// One line that says what machine this is.
pub(crate) fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let virtual_machine = cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    format!(
        "{}, {count} processors{}, {} GiB of memory, Linux {}",
        model.unwrap_or("a processor that doesn't say its model"),
        if virtual_machine { " (virtual machine)" } else { "" },
        (memory.unwrap_or(0) + (1 << 19)) >> 20,
        kernel.trim(),
    )
}
