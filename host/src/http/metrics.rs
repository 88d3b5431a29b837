//! `GET /metrics`: the figures of the server and its plugins, for Prometheus.
//!
//! For everybody who can reach the server, as scrapers have no token: nothing in it names a user, a lab, a file or a
//! setting. A plugin is named as in messages to users.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;

use super::Api;
use super::exposition::{CONTENT_TYPE, Exposition, Labels, Unit};
use super::health::reloads;
use crate::edge::{EdgeFigures, Tls};
use crate::labs::Labs;
use crate::labs::capacity::Resource;
use crate::labs::model::{InstanceState, LabState};
use crate::plugins::config::Mode;
use crate::plugins::{PluginHost, PluginReport};

/// Figures for Prometheus
///
/// Plugins, commands, labs, sessions, shells and the process, in the text format 0.0.4.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "operators", security(()),
    responses((status = 200, description = "The figures.", body = String, content_type = "text/plain")),
)]
pub(super) async fn show(State(api): State<Api>) -> impl IntoResponse {
    let mut text = Exposition::default();
    of_plugins(&mut text, &api.plugins);
    of_server(&mut text, &api);
    of_labs(&mut text, &api.labs);
    of_process(&mut text);
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text.finish())
}

/// `enforce` or `monitor`.
pub(super) fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Monitor => "monitor",
    }
}

fn of_plugins(text: &mut Exposition, plugins: &PluginHost) {
    let reports = plugins.reports();
    let id =
        |report: &PluginReport| [("hook", report.info.hook.name().to_owned()), ("plugin", report.info.name.clone())];
    // What is the same for all functions of a plugin.
    let each = |write: &mut dyn FnMut(&PluginReport, Labels<'_>)| {
        for report in &reports {
            let [hook, plugin] = id(report);
            write(report, &[(hook.0, &hook.1), (plugin.0, &plugin.1)]);
        }
    };

    let mut family = text.gauges("antimony_plugin_info", "The plugins in use; digest is the component's SHA-256");
    each(&mut |report, labels| {
        let info = &report.info;
        let more = [("version", info.version.as_str()), ("digest", &info.digest), ("mode", mode_name(info.mode))];
        family.sample(&[labels, &more].concat(), 1);
    });

    let help = "Questions that plugins were asked, by function and outcome, since the plugin was loaded";
    let mut family = text.counters("antimony_plugin_calls_total", help);
    each(&mut |report, labels| {
        for function in &report.functions {
            // Also those that haven't come about: a rate needs the zero that it began with.
            for (outcome, count) in &function.outcomes {
                let more = [("function", function.function), ("outcome", outcome.name())];
                family.sample(&[labels, &more].concat(), count);
            }
        }
    });

    let help = "How long questions to plugins took, waiting for other calls of the same plugin included";
    let mut family = text.histograms("antimony_plugin_call_duration_microseconds", help);
    each(&mut |report, labels| {
        for function in &report.functions {
            let labels = [labels, &[("function", function.function)]].concat();
            family.durations(&labels, &function.times, Unit::Microseconds);
        }
    });

    let help = "How the answers of plugins in mode monitor compare with what was decided";
    let mut family = text.counters("antimony_plugin_watched_total", help);
    for (info, compared) in plugins.compared() {
        for (answer, count) in compared.named() {
            let labels = [("hook", info.hook.name()), ("plugin", &info.name), ("answer", answer)];
            family.sample(&labels, count);
        }
    }

    let help = "Decisions that are missing in the decision log, since more were made than could be written";
    text.counters("antimony_decision_log_dropped_total", help).sample(&[], plugins.decisions_dropped());

    let help = "Calls of which some log lines were dropped, since they were more than the budget allows";
    let mut family = text.counters("antimony_plugin_log_cut_total", help);
    each(&mut |report, labels| _ = family.sample(labels, report.log_cut));

    let help = "Whether a plugin keeps failing, so that what it failed on is not put to it: 1 if so";
    let mut family = text.gauges("antimony_plugin_breaker_open", help);
    each(&mut |report, labels| _ = family.sample(labels, u8::from(report.breaker.open)));

    let mut family =
        text.counters("antimony_plugin_breaker_opened_total", "How often the breaker of a plugin has opened");
    each(&mut |report, labels| _ = family.sample(labels, report.breaker.opened));

    let reloads = reloads(plugins);
    let help = "Counts the sets of plugins that were put in force, from 1";
    text.gauges("antimony_plugins_generation", help).sample(&[], reloads.generation);
    let help =
        "Whether the last attempt to load other plugins failed, so that earlier ones are still in force: 1 if so";
    text.gauges("antimony_plugins_reload_failed", help).sample(&[], u8::from(reloads.last_error.is_some()));
}

fn of_server(text: &mut Exposition, api: &Api) {
    let version = env!("CARGO_PKG_VERSION");
    text.gauges("antimony_info", "The server")
        .sample(&[("version", version), ("runtime", api.observed.runtime.name())], 1);
    text.gauges("antimony_sessions", "Socket.IO sessions that clients have").sample(&[], (api.observed.sessions)());
    text.gauges("antimony_shells_open", "Shells that users have open").sample(&[], (api.observed.shells)());
    text.gauges("antimony_captures", "Captures of packets that go on").sample(&[], api.captures.count());

    let help = "Labs whose nodes are looked at for what they use, since somebody listens";
    text.gauges("antimony_stats_samplers", help).sample(&[], api.stats.samplers());

    of_edge(text, &api.observed.edge);

    let commands = api.observed.commands.now();
    let help = "Commands that were answered, by what they asked for and the code of the answer, 0 for success";
    let mut family = text.counters("antimony_commands_total", help);
    for report in &commands {
        for (code, count) in &report.codes {
            family.sample(&[("kind", report.kind), ("code", &code.to_string())], count);
        }
    }
    let mut family = text.histograms("antimony_command_duration_seconds", "How long it took to answer commands");
    for report in &commands {
        family.durations(&[("kind", report.kind)], &report.times, Unit::Seconds);
    }
}

fn of_edge(text: &mut Exposition, edge: &EdgeFigures) {
    text.gauges("antimony_connections", "Connections that are open, web sockets included")
        .sample(&[], edge.admission.open());
    let help = "Connections that were turned away, since there were too many in all, or too many of one address";
    let mut family = text.counters("antimony_connections_refused_total", help);
    for (reason, count) in edge.admission.refused() {
        family.sample(&[("reason", reason.name())], count);
    }
    let Some(tls) = edge.tls.as_ref().map(Tls::report) else { return };
    let help = "How many days the certificate of TLS counts still";
    text.gauges("antimony_tls_certificate_days_left", help).sample(&[], tls.days_left());
    let help = "When the certificate of TLS expires, in seconds since 1970";
    text.gauges("antimony_tls_certificate_not_after_seconds", help).sample(&[], tls.not_after.as_second());
    let help = "How often another certificate was put in force";
    text.counters("antimony_tls_certificate_reloads_total", help).sample(&[], tls.reloads);
    let help = "Whether the files of certificate and key can't be used, so that earlier ones are in force: 1 if so";
    text.gauges("antimony_tls_certificate_reload_failed", help).sample(&[], u8::from(tls.failed_at.is_some()));
    let help = "TLS handshakes that failed or took too long";
    text.counters("antimony_tls_handshakes_failed_total", help).sample(&[], tls.failures);
}

fn of_labs(text: &mut Exposition, labs: &Labs) {
    // All of them, so that what there is none of is seen as 0.
    let mut counts: BTreeMap<&str, u64> =
        ["scheduled", "inactive", "deploying", "running", "stopping", "failed"].map(|state| (state, 0)).into();
    for lab in labs.list() {
        *counts.entry(state_name(lab.state)).or_default() += 1;
    }
    let mut family = text.gauges("antimony_labs", "Labs by their state");
    for (state, count) in counts {
        family.sample(&[("state", state)], count);
    }
    // Of all labs together: a collection is not for everybody's eyes.
    let (limits, reserved) = (labs.capacity().limits(), labs.reserved(None).all);
    for (resource, reserved_name, limit_name, what) in [
        (Resource::Labs, "antimony_reserved_labs", "antimony_capacity_labs", "How many places"),
        (Resource::Nodes, "antimony_reserved_nodes", "antimony_capacity_nodes", "How many nodes"),
        (
            Resource::Memory,
            "antimony_reserved_memory_bytes",
            "antimony_capacity_memory_bytes",
            "How much memory of nodes, in bytes,",
        ),
    ] {
        let help = format!("{what} labs have reserved at this moment");
        text.gauges(reserved_name, &help).sample(&[], reserved.of(resource));
        if let Some(limit) = limits.of(resource) {
            let help = format!("{what} labs may reserve at once");
            text.gauges(limit_name, &help).sample(&[], limit);
        }
    }
}

fn state_name(state: LabState) -> &'static str {
    match state {
        LabState::Scheduled => "scheduled",
        LabState::Inactive => "inactive",
        LabState::Instance(InstanceState::Deploying) => "deploying",
        LabState::Instance(InstanceState::Running) => "running",
        LabState::Instance(InstanceState::Stopping) => "stopping",
        LabState::Instance(InstanceState::Failed) => "failed",
    }
}

/// Under the names that Prometheus' own libraries use. What can't be found out is left out.
fn of_process(text: &mut Exposition) {
    let kib = |status: &str, key: &str| -> Option<u64> {
        let value = status.lines().find_map(|line| line.strip_prefix(key))?;
        value.trim().strip_suffix("kB")?.trim().parse().ok()
    };
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        for (name, key, help) in [
            ("process_resident_memory_bytes", "VmRSS:", "Memory that the server has resident"),
            (
                "process_virtual_memory_bytes",
                "VmSize:",
                "Address space that the server has reserved, that of plugins included",
            ),
        ] {
            if let Some(kib) = kib(&status, key) {
                text.gauges(name, help).sample(&[], kib * 1024);
            }
        }
    }
    if let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the folder that is being read.
        let open = descriptors.count().saturating_sub(1);
        text.gauges("process_open_fds", "File descriptors that are open").sample(&[], open);
    }
    if let Ok((limit, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        text.gauges("process_max_fds", "File descriptors that may be open").sample(&[], limit);
    }
    if let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF) {
        let seconds = |time: nix::sys::time::TimeVal| {
            #[expect(clippy::cast_precision_loss, reason = "centuries are below 2^53 microseconds")]
            let micros = (time.tv_sec() * 1_000_000 + time.tv_usec()) as f64;
            micros / 1e6
        };
        let all = seconds(usage.user_time()) + seconds(usage.system_time());
        text.counters("process_cpu_seconds_total", "Time that the server has computed").sample(&[], all);
    }
}
