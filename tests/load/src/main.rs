//! Measures antimony-host side by side with bare socketioxide and Node's socket.io, and prints one table.
//!
//! `README.md` says how to run it and how to read the table. In order: `machine` shares out the processors, `contest`
//! starts the servers (`process`) and makes them do things, `measure` loads them by means of `connection` and counts, and
//! `report` writes the table. `bare` is the second server itself. Nothing here is used by the server under test.

mod bare;
mod connection;
mod contest;
mod machine;
mod measure;
mod process;
mod report;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

use self::contest::{Contestant, Kind, Running};
use self::machine::Places;
use self::measure::{acks, fanout::Audience, memory, percentile};
use self::report::{Column, Figure, Sizes};

/// From this share of one processor on, other programs disturb.
const DISTURBED: f64 = 0.3;

/// Measures antimony-host, bare socketioxide and Node's socket.io on this machine and prints one table.
#[derive(Debug, Parser)]
#[command(name = "antimony-load", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// A run of about 20 seconds: checks that everything arrives, and says little about speed
    #[arg(long)]
    quick: bool,
    /// Rounds, whose medians are printed [default: 5]
    #[arg(long)]
    rounds: Option<usize>,
    /// Clients that send commands, and that follow the log [default: 200]
    #[arg(long)]
    clients: Option<usize>,
    /// Clients that are idle [default: 1000]
    #[arg(long)]
    idle: Option<usize>,
    /// Lines of an unpaced log; the server keeps about 7000 of them [default: 5000]
    #[arg(long)]
    burst: Option<u64>,
    /// Delivered messages per second of a paced log [default: 100000]
    #[arg(long)]
    paced: Option<u64>,
    /// Seconds that each load lasts [default: 5]
    #[arg(long)]
    seconds: Option<f64>,
    /// Wait for other programs to be idle, and repeat what they disturbed, for at most so many minutes in all
    #[arg(long, value_name = "MINUTES", default_value_t = 0)]
    undisturbed: u64,
    /// The antimony-host to measure, instead of one that is built now
    #[arg(long, value_name = "FILE")]
    server: Option<PathBuf>,
    /// Measure only these
    #[arg(long, value_name = "SERVER", value_enum)]
    only: Vec<Which>,
    /// Put only these loads on them
    #[arg(long, value_name = "LOAD", value_enum)]
    load: Vec<Load>,
    /// Also write the table, and what machine it is of, to this file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Show what the servers write
    #[arg(long)]
    loud: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    Antimony,
    Bare,
    Node,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Load {
    /// Starting
    Start,
    /// Clients that are idle
    Idle,
    /// One client's commands
    Command,
    /// Many clients' commands
    Commands,
    /// A log as fast as can be
    Burst,
    /// A log at an even pace
    Paced,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be the bare socketioxide server
    #[command(hide = true)]
    Bare,
}

/// How much of everything.
#[derive(Debug)]
struct Plan {
    sizes: Sizes,
    burst: u64,
    seconds: f64,
    /// Unpaced logs per round.
    bursts: usize,
    /// Starts per round whose time is taken.
    starts: usize,
    /// Nothing: all.
    loads: Vec<Load>,
}

impl Plan {
    fn of(cli: &Cli) -> Self {
        fn choose<T>(quick: bool, when_quick: T, full: T) -> T {
            if quick { when_quick } else { full }
        }
        let pick = |when_quick, full| choose(cli.quick, when_quick, full);
        let pick_long = |when_quick: u64, full: u64| choose(cli.quick, when_quick, full);
        Self {
            sizes: Sizes {
                clients: cli.clients.unwrap_or(pick(50, 200)).max(1),
                idle: cli.idle.unwrap_or(pick(100, 1000)).max(1),
                paced: cli.paced.unwrap_or(pick_long(25_000, 100_000)).max(1),
                rounds: cli.rounds.unwrap_or(pick(1, 5)).max(1),
            },
            burst: cli.burst.unwrap_or(pick_long(2000, 5000)).max(1),
            seconds: cli.seconds.unwrap_or(if cli.quick { 0.5 } else { 5.0 }),
            bursts: pick(1, 3),
            starts: pick(1, 3),
            loads: cli.load.clone(),
        }
    }

    fn has(&self, load: Load) -> bool {
        self.loads.is_empty() || self.loads.contains(&load)
    }
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if let Some(Command::Bare) = cli.command {
        return tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(bare::serve());
    }
    let places = Places::find()?;
    // Before there are threads: they inherit it.
    machine::raise_descriptor_limit()?;
    let server = match &cli.server {
        Some(server) => server.canonicalize().with_context(|| format!("there is no {}", server.display()))?,
        None => contest::build_server()?,
    };
    machine::pin(&places.client)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(places.client.len()).enable_all().build()?;
    runtime.block_on(async {
        // What is dropped on the way ends the servers.
        tokio::select! {
            ended = compare(cli, server, places) => ended,
            _ = stop_signal()? => anyhow::bail!("interrupted"),
        }
    })
}

fn stop_signal() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

fn say(text: &str) {
    // On standard error, so that the table alone can be kept.
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn compare(cli: Cli, server: PathBuf, places: Places) -> anyhow::Result<()> {
    let plan = Plan::of(&cli);
    let wanted = |which: Which| cli.only.is_empty() || cli.only.contains(&which);
    let (began, load_before) = (Instant::now(), machine::load());
    let mut notes = Vec::new();
    let mut contestants = Vec::new();
    if wanted(Which::Antimony) {
        contestants.push(Contestant::new(Kind::Antimony, server.clone(), &places, cli.loud)?);
    }
    if wanted(Which::Bare) {
        contestants.push(Contestant::new(Kind::Bare, PathBuf::new(), &places, cli.loud)?);
    }
    if wanted(Which::Node) {
        let folder = server.parent().context("the server is in a folder")?.join("../load-node");
        match contest::install(&folder) {
            Ok(script) => contestants.push(Contestant::new(Kind::Node, script, &places, cli.loud)?),
            Err(why) => notes.push(format!("left out: Node's socket.io: {why:#}.")),
        }
    }
    if cfg!(debug_assertions) {
        notes.push("A build without optimisation: nothing here says anything about speed.".to_owned());
    }
    if !places.apart() {
        notes.push("Fewer than 4 processors: servers and client share them, and get in each other's way.".to_owned());
    }

    let mut columns: Vec<_> = contestants.iter().map(|contestant| Column::new(contestant.kind.name())).collect();
    let (mut others, mut measured) = (Duration::ZERO, Duration::ZERO);
    let patient_until = began + Duration::from_secs(cli.undisturbed * 60);
    for round in 1..=plan.sizes.rounds {
        for (contestant, column) in contestants.iter_mut().zip(&mut columns) {
            say(&format!("round {round} of {}: {}", plan.sizes.rounds, column.name));
            loop {
                wait_for_quiet(patient_until).await?;
                let mut attempt = Column::new(column.name);
                let all_used = measure_one(contestant, &plan, &mut attempt).await.with_context(|| column.name)?;
                let disturbance: Duration = all_used.iter().map(|used| used.others).sum();
                let wall: Duration = all_used.iter().map(|used| used.wall).sum();
                if disturbance > wall.mul_f64(DISTURBED) && Instant::now() < patient_until {
                    say("  other programs disturbed it: once more");
                    continue;
                }
                column.append(attempt);
                others += disturbance;
                measured += wall;
                break;
            }
        }
    }

    let cpus = |cpus: &[usize]| cpus.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    let Sizes { rounds, .. } = plan.sizes;
    writeln!(text, "Machine: {}.", machine::describe())?;
    writeln!(text, "Servers on processors {}, client on {}.", cpus(&places.server), cpus(&places.client))?;
    let medians = if rounds == 1 { "One round".to_owned() } else { format!("Medians of {rounds} rounds") };
    let share = others.as_secs_f64() / measured.as_secs_f64().max(f64::MIN_POSITIVE) * 100.0;
    writeln!(
        text,
        "{medians}, {} s in all; load average {load_before} before, {} after; other programs used {share:.0} % of one \
         processor while measuring.",
        began.elapsed().as_secs(),
        machine::load(),
    )?;
    for note in &notes {
        writeln!(text, "{note}")?;
    }
    writeln!(text, "\n{}", report::table(&columns, &plan.sizes))?;
    if rounds > 1 {
        writeln!(text, "{}", report::spread(&columns, &plan.sizes))?;
    }
    write!(std::io::stdout(), "{text}")?;
    if let Some(out) = cli.out {
        std::fs::write(&out, text).with_context(|| format!("write {}", out.display()))?;
    }
    for (contestant, column) in contestants.iter().zip(&columns) {
        let wrong = [Figure::Lost, Figure::Disordered].map(|figure| column.value(figure).unwrap_or(0.0));
        let ours = matches!(contestant.kind, Kind::Antimony);
        anyhow::ensure!(!ours || wrong == [0.0; 2], "{} lost, doubled or disordered messages", column.name);
    }
    Ok(())
}

/// Waits until other programs have been idle for some seconds, or the time is over.
async fn wait_for_quiet(until: Instant) -> anyhow::Result<()> {
    const LOOK: Duration = Duration::from_secs(2);
    while Instant::now() < until {
        let before = machine::busy()?;
        tokio::time::sleep(LOOK).await;
        if machine::busy()?.saturating_sub(before) <= LOOK.mul_f64(DISTURBED) {
            break;
        }
    }
    Ok(())
}

/// One round of one server. Answers what the measurements took.
async fn measure_one(
    contestant: &mut Contestant,
    plan: &Plan,
    column: &mut Column,
) -> anyhow::Result<Vec<measure::Used>> {
    let Sizes { clients, idle, paced, .. } = plan.sizes;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let time = Duration::from_secs_f64(plan.seconds);
    let processors = contestant.places.client.len() as f64;
    let client_load = |used: &measure::Used| used.client.as_secs_f64() / used.wall.as_secs_f64() / processors * 100.0;
    let mut all_used = Vec::new();

    // The first start of all fills caches.
    drop(contestant.start().await?);
    for _ in 0..if plan.has(Load::Start) { plan.starts } else { 0 } {
        let started = contestant.start().await?;
        column.add(Figure::Start, micros(started.took) / 1e3);
    }

    // Memory that other loads had is used again; so this comes first, in a server that did nothing else.
    if plan.has(Load::Idle) {
        let mut running = ready(contestant).await?;
        let memory = memory::run(contestant, &mut running, idle).await?;
        column.add(Figure::EmptyMemory, memory.empty as f64 / f64::from(1 << 20));
        column.add(Figure::MemoryPerClient, memory.per_client / 1024.0);
    }

    let mut running = ready(contestant).await?;
    if plan.has(Load::Command) {
        let alone = acks::run(&running, 1, time).await?;
        column.add(Figure::RoundTrip, micros(percentile(&alone.times, 0.5)));
        column.add(Figure::RoundTripTail, micros(percentile(&alone.times, 0.99)));
        all_used.push(alone.used);
    }
    if plan.has(Load::Commands) {
        let many = acks::run(&running, clients, time).await?;
        column.add(Figure::AcksPerSecond, many.times.len() as f64 / many.used.wall.as_secs_f64());
        column.add(Figure::AckUnderLoad, micros(percentile(&many.times, 0.5)) / 1e3);
        column.add(Figure::AckTailUnderLoad, micros(percentile(&many.times, 0.99)) / 1e3);
        column.add(Figure::CpuPerAck, micros(many.used.server) / many.times.len() as f64);
        column.add(Figure::ClientAtAcks, client_load(&many.used));
        all_used.push(many.used);
    }

    let mut audience = Audience::gather(&running, clients).await?;
    for _ in 0..if plan.has(Load::Burst) { plan.bursts } else { 0 } {
        let heard = audience.hear(contestant, &mut running, plan.burst, 0).await?;
        column.add(Figure::Burst, heard.per_second);
        column.add(Figure::CpuPerBurstMessage, micros(heard.used.server) / heard.of as f64);
        column.add(Figure::ClientAtBurst, client_load(&heard.used));
        column.add(Figure::Lost, heard.lost as f64);
        column.add(Figure::Disordered, heard.disorder as f64);
        all_used.push(heard.used);
    }
    if plan.has(Load::Paced) {
        let rate = (paced / clients as u64).max(1);
        let lines = ((rate as f64 * plan.seconds * 1.2) as u64).max(20);
        let heard = audience.hear(contestant, &mut running, lines, rate).await?;
        column.add(Figure::PacedRate, heard.of as f64 / heard.used.wall.as_secs_f64());
        column.add(Figure::CpuPerPacedMessage, micros(heard.used.server) / heard.of as f64);
        column.add(Figure::SwitchesPerPacedMessage, heard.used.switches as f64 / heard.of as f64);
        column.add(Figure::ClientPaced, client_load(&heard.used));
        column.add(Figure::Lost, heard.lost as f64);
        column.add(Figure::Disordered, heard.disorder as f64);
        all_used.push(heard.used);
    }
    Ok(all_used)
}

/// A server that has just been started, with what the loads need.
async fn ready(contestant: &mut Contestant) -> anyhow::Result<Running> {
    let started = contestant.start().await?;
    let running = contestant.prepare(started).await?;
    say(&format!("  process {}", running.process.id()));
    Ok(running)
}
